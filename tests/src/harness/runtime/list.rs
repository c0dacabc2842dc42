//! Lists of plugins on a lab's nodes, each plugin with the result of the one before, as the
//! specification has it.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::super::cni::reference_plugin;
use super::{Lab, Sandbox, outcome};

impl Lab {
    /// Runs a list, or the one plugin of a `.conf`, for an ADD: the last result. `given` is what a
    /// runtime has for the capabilities, by their names.
    pub fn attach(&self, sandbox: &Sandbox, list: &Value, given: &Value) -> Result<Value> {
        let mut previous = None;
        for config in configs(list, given) {
            let answer = self.run_of_list("ADD", sandbox, config, previous.as_ref())?;
            previous = Some(answer.context("ADD without a result")?);
        }
        previous.context("a list has a plugin at least")
    }

    /// Takes back what [`Lab::attach`] made.
    pub fn detach(
        &self,
        sandbox: &Sandbox,
        list: &Value,
        given: &Value,
        result: &Value,
    ) -> Result<()> {
        for config in configs(list, given).into_iter().rev() {
            self.run_of_list("DEL", sandbox, config, Some(result))?;
        }
        Ok(())
    }

    fn run_of_list(
        &self,
        command: &str,
        sandbox: &Sandbox,
        mut config: Value,
        previous: Option<&Value>,
    ) -> Result<Option<Value>> {
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let name = config["type"].as_str().unwrap_or_default();
        let program = match name {
            "fairlead-cni" => self.cni(&sandbox.node, "bin/fairlead-cni"),
            other => reference_plugin(other)?,
        };
        let answer = outcome(self.start_plugin(command, sandbox, &program, &config)?)?;
        ensure!(answer.code == Some(0), "{command} of {name}: {answer:?}");
        Ok(answer.output)
    }
}

/// The configuration of each plugin, as a runtime makes it.
fn configs(list: &Value, given: &Value) -> Vec<Value> {
    let alone = [list.clone()];
    let plugins = list["plugins"].as_array().map_or(&alone[..], Vec::as_slice);
    let whole = plugins.iter().map(|plugin| {
        let mut config = plugin.clone();
        for key in ["name", "cniVersion"] {
            config[key] = list[key].clone();
        }
        let declared = |name: &str| plugin["capabilities"][name] == json!(true);
        let given = given.as_object().into_iter().flatten();
        let runtime: Map<String, Value> = given
            .filter(|(name, _)| declared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            config["runtimeConfig"] = runtime.into();
        }
        config
    });
    whole.collect()
}
