//! What the configuration writes: each output with its renderer, its check and its proxy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use model::Problem;

use crate::apply::applier::{DriftWatch, Output, Settings};
use crate::apply::check::Check;
use crate::apply::files::{Ownership, Place, Store};
use crate::apply::guard::GuardLimits;
use crate::apply::pace::{BudgetLimits, Debounce};
use crate::apply::reload::{self, Notifier, Proxy, StatusSocket};
use crate::apply::state::Pace;
use crate::config::{self, Haproxy, Nginx, Template};
use crate::edge::{Defaults, EdgePlan};
use crate::haproxy::runtime::Socket;
use crate::output::{Grammar, Rendered};
use crate::render::{OperatorTemplate, Waits};
use crate::{haproxy, nginx};

/// A runtime command is answered within a millisecond; a proxy that reloads answers later.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Checks that a search for guilty objects may take: two of ten thousand, at half a second each.
const MAX_CHECKS: usize = 64;
const DRAIN: Duration = Duration::from_secs(300);

/// One output.
#[derive(Debug)]
pub struct Target {
    /// In tables, metrics and messages.
    pub name: String,
    /// How its files are made.
    pub renderer: Renderer,
    /// How they are applied.
    pub settings: Settings,
}

/// How files are made of a plan.
#[derive(Debug)]
pub enum Renderer {
    /// The templates of this build for HAProxy.
    Haproxy(haproxy::Options),
    /// The templates of this build for nginx.
    Nginx(nginx::Options),
    /// An operator's own.
    Operator {
        /// The template.
        template: Box<OperatorTemplate>,
        /// Name of the file.
        file: String,
    },
}

impl Renderer {
    /// The files, and what the proxy does otherwise than the plan says.
    ///
    /// # Errors
    /// What a template refused, and whose value it was.
    pub fn render(&self, plan: &EdgePlan) -> Result<(Rendered, Vec<Problem>), String> {
        match self {
            Self::Haproxy(options) => {
                let rendering = haproxy::render(plan, options).map_err(|e| e.to_string())?;
                Ok((rendering.rendered, rendering.problems))
            }
            Self::Nginx(options) => {
                let rendering = nginx::render(plan, options).map_err(|e| e.to_string())?;
                Ok((rendering.rendered, rendering.problems))
            }
            Self::Operator { template, file } => {
                let date = jiff::Timestamp::now().as_second().to_string();
                Ok((of_operator(template, file, plan, &date)?, Vec::new()))
            }
        }
    }

    /// What a live output becomes with another plan, where servers alone differ and the proxy
    /// follows without a reload.
    pub fn update(&self, live: &Output, plan: &EdgePlan) -> Option<haproxy::Update> {
        match self {
            Self::Haproxy(options) => haproxy::update(&live.rendered, &live.plan, plan, options),
            Self::Nginx(_) | Self::Operator { .. } => None,
        }
    }

    /// The template of this build, and which line of it made each line of the main file. An
    /// operator's template is his own to read.
    pub fn source_map(&self, plan: &EdgePlan) -> Option<(&'static str, Vec<Option<usize>>)> {
        let lines = match self {
            Self::Haproxy(options) => haproxy::source_map(plan, options),
            Self::Nginx(options) => nginx::source_map(plan, options),
            Self::Operator { .. } => return None,
        };
        let template = match self {
            Self::Haproxy(_) => haproxy::TEMPLATE,
            Self::Nginx(_) | Self::Operator { .. } => nginx::TEMPLATE,
        };
        Some((template, lines.ok()?))
    }

    /// The files as they would be at no particular time, so that two renderings can be compared.
    ///
    /// # Errors
    /// What a template refused, and whose value it was.
    pub fn undated(&self, plan: &EdgePlan) -> Result<Rendered, String> {
        match self {
            Self::Operator { template, file } => of_operator(template, file, plan, "0"),
            Self::Haproxy(_) | Self::Nginx(_) => Ok(self.render(plan)?.0),
        }
    }
}

/// An output as it is rendered, without what is needed to apply it: nothing is opened for it.
#[derive(Debug)]
pub struct Written {
    /// As [`Target::name`].
    pub name: String,
    /// The directory that the proxy reads its files in.
    pub directory: PathBuf,
    /// How its files are made.
    pub renderer: Renderer,
}

/// Every output of a configuration, to be rendered only.
///
/// # Errors
/// A template that cannot be read or compiled.
pub fn written(settings: &config::Settings) -> Result<Vec<Written>> {
    let config::Outputs {
        haproxy,
        nginx,
        templates,
    } = &settings.outputs;
    let defaults = &settings.edge.defaults;
    let mut all = Vec::new();
    if let Some(of) = haproxy {
        all.push(Written {
            name: "haproxy".to_owned(),
            directory: of.directory.join("current"),
            renderer: haproxy_renderer(of, defaults),
        });
    }
    if let Some(of) = nginx {
        all.push(Written {
            name: "nginx".to_owned(),
            directory: of.directory.join("current"),
            renderer: nginx_renderer(of, defaults),
        });
    }
    for (template, grammar) in templates {
        all.push(Written {
            name: shown(&template.output),
            directory: PathBuf::from(beside(&template.output)),
            renderer: template_renderer(template, *grammar)?,
        });
    }
    Ok(all)
}

fn of_operator(
    template: &OperatorTemplate,
    file: &str,
    plan: &EdgePlan,
    date: &str,
) -> Result<Rendered, String> {
    let plan = Arc::new(plan.clone());
    let output = template.render(&plan, date).map_err(|e| e.to_string())?;
    Ok(Rendered {
        files: BTreeMap::from([(file.to_owned(), Arc::new(output.file))]),
        main: file.to_owned(),
        generation: None,
    })
}

/// Every output of a configuration.
///
/// # Errors
/// A template that cannot be read or compiled, or a notifier that makes no sense.
pub fn targets(settings: &config::Settings) -> Result<Vec<Target>> {
    let config::Outputs {
        haproxy,
        nginx,
        templates,
    } = &settings.outputs;
    let (apply, defaults) = (&settings.apply, &settings.edge.defaults);
    let mut targets = Vec::new();
    if let Some(of) = haproxy {
        targets.push(of_haproxy(of, apply, defaults)?);
    }
    if let Some(of) = nginx {
        targets.push(of_nginx(of, apply, defaults)?);
    }
    for (template, grammar) in templates {
        targets.push(of_template(template, *grammar, apply)?);
    }
    if targets.is_empty() {
        bail!("nothing is to be written: add [haproxy], [nginx] or [[templates]]");
    }
    Ok(targets)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn beside(path: &Path) -> String {
    path.parent().map(shown).unwrap_or_default()
}

fn waits(defaults: &Defaults) -> Waits {
    Waits {
        connect: defaults.connect_timeout,
        client: defaults.client_timeout,
        server: defaults.server_timeout,
        ..Waits::default()
    }
}

fn notifier(text: &str) -> Result<Notifier> {
    Notifier::parse(text).with_context(|| format!("notify {text:?}"))
}

fn haproxy_renderer(of: &Haproxy, defaults: &Defaults) -> Renderer {
    Renderer::Haproxy(haproxy::Options {
        admin_socket: shown(&of.socket),
        run_directory: beside(&of.socket),
        hard_stop_after: Some(of.hard_stop_after.0),
        waits: waits(defaults),
        ..haproxy::Options::default()
    })
}

fn of_haproxy(of: &Haproxy, apply: &config::Apply, defaults: &Defaults) -> Result<Target> {
    let master = of.master_socket.as_deref();
    let proxy = Proxy::Haproxy(reload::Haproxy {
        runtime: Socket::new(&of.socket, SOCKET_TIMEOUT),
        master: master.map(|path| Socket::new(path, SOCKET_TIMEOUT)),
        pid_file: None,
        notifier: of.notify.as_deref().map(notifier).transpose()?,
    });
    let check = Check::command(&of.check);
    Ok(Target {
        name: "haproxy".to_owned(),
        renderer: haproxy_renderer(of, defaults),
        settings: applied(&of.directory, Place::Directory, check, proxy, apply)?,
    })
}

fn nginx_renderer(of: &Nginx, defaults: &Defaults) -> Renderer {
    let own = nginx::Options::default();
    Renderer::Nginx(nginx::Options {
        modules: if of.modules.is_empty() {
            own.modules.clone()
        } else {
            of.modules.iter().map(|path| shown(path)).collect()
        },
        run_directory: beside(&of.pid_file),
        temporary_directory: shown(&of.temporary_directory),
        pid_file: shown(&of.pid_file),
        user: of.user.clone(),
        waits: waits(defaults),
        ..own
    })
}

fn of_nginx(of: &Nginx, apply: &config::Apply, defaults: &Defaults) -> Result<Target> {
    let run_directory = beside(&of.pid_file);
    let status = StatusSocket {
        path: Path::new(&run_directory).join("status.sock"),
        url_path: "/generation".to_owned(),
    };
    let proxy = Proxy::Nginx(reload::Nginx {
        pid_file: of.pid_file.clone(),
        status: Some(status),
        notifier: of.notify.as_deref().map(notifier).transpose()?,
    });
    let check = Check::command(&of.check);
    Ok(Target {
        name: "nginx".to_owned(),
        renderer: nginx_renderer(of, defaults),
        settings: applied(&of.directory, Place::Directory, check, proxy, apply)?,
    })
}

fn template_renderer(of: &Template, grammar: Grammar) -> Result<Renderer> {
    Ok(Renderer::Operator {
        template: Box::new(read(of, grammar)?),
        file: file_of(&of.output)?,
    })
}

fn file_of(output: &Path) -> Result<String> {
    let file = output
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    file.with_context(|| format!("output {} has no file's name", output.display()))
}

fn of_template(of: &Template, grammar: Grammar, apply: &config::Apply) -> Result<Target> {
    let output = &of.output;
    let file = file_of(output)?;
    let notifiers: Vec<Notifier> = of
        .notify
        .iter()
        .map(|text| notifier(text))
        .collect::<Result<_>>()?;
    let check = of.check.as_deref().map_or(Check::Unchecked, Check::command);
    // Versions stand beside the file: one rename puts one in its place.
    let root = output.with_file_name(format!(".{file}.fairlead"));
    let place = Place::File(output.clone());
    Ok(Target {
        name: shown(output),
        renderer: template_renderer(of, grammar)?,
        settings: applied(&root, place, check, Proxy::Notified(notifiers), apply)?,
    })
}

fn read(of: &Template, grammar: Grammar) -> Result<OperatorTemplate> {
    let text = |path: &Path| {
        let text = fs::read_to_string(path);
        text.with_context(|| format!("template {} cannot be read", path.display()))
    };
    if let Some(directory) = &of.directory {
        let entries = fs::read_dir(directory).with_context(|| {
            format!("template directory {} cannot be read", directory.display())
        })?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let end = path.extension().and_then(|end| end.to_str());
            if let (Some("tmpl" | "conf"), Some(name)) = (end, path.file_name()) {
                files.push((name.to_string_lossy().into_owned(), text(&path)?));
            }
        }
        return Ok(OperatorTemplate::directory(
            &shown(directory),
            &files,
            grammar,
        )?);
    }
    let file = of.file.as_deref().unwrap_or(Path::new(""));
    Ok(OperatorTemplate::single(
        &shown(file),
        &text(file)?,
        grammar,
    )?)
}

fn applied(
    root: &Path,
    place: Place,
    check: Check,
    proxy: Proxy,
    apply: &config::Apply,
) -> Result<Settings> {
    let store = Store::open(root, place, Ownership::default())?;
    let mut pace = Pace::new(u64::from(std::process::id()));
    pace.debounce = Debounce::new(apply.quiet.0, apply.max_wait.0);
    pace.budget = BudgetLimits {
        min_gap: apply.reload_gap.0,
        per_hour: usize::try_from(apply.reloads_per_hour).unwrap_or(usize::MAX),
        max_old_processes: usize::try_from(apply.max_old_processes).unwrap_or(usize::MAX),
    };
    Ok(Settings {
        store,
        check,
        check_timeout: apply.check_timeout.0,
        max_checks: MAX_CHECKS,
        proxy,
        pace,
        guard: GuardLimits {
            max_removed_percent: apply.max_shrink_percent,
            ..GuardLimits::default()
        },
        drain: DRAIN,
        drift: Some(DriftWatch {
            interval: apply.drift_check.0,
            repairs: apply.drift == "repair",
        }),
    })
}
