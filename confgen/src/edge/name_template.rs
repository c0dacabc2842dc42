//! Templates of server names, as kube2lb's: `{{ .Service.Name }}.{{ .Service.Namespace }}.svc`.
//!
//! Only fields, no actions: a name is made of nothing else, and what it may be made of is known
//! before any Service is.

use std::fmt;
use std::sync::Arc;

use model::{ObjectKey, ServicePort};

use super::value::{HeaderName, Hostname};

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Arc<str>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Domain,
    PortName,
    Port,
    NodePort,
    Mode,
}

impl Field {
    const ALL: [(&str, Self); 7] = [
        ("Service.Name", Self::Name),
        ("Service.Namespace", Self::Namespace),
        ("Service.Port.Name", Self::PortName),
        ("Service.Port.Port", Self::Port),
        ("Service.Port.Mode", Self::Mode),
        ("Service.NodePort", Self::NodePort),
        ("Domain", Self::Domain),
    ];
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// `{{` without `}}`.
    #[error("{{{{ is not closed")]
    Open,
    /// Not a field.
    #[error("{{{{ {0} }}}} is no field; there are {fields}", fields = fields())]
    Unknown(String),
}

fn fields() -> String {
    Field::ALL.map(|(name, _)| format!(".{name}")).join(" ")
}

impl NameTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`Unusable`] where something in it is not a field.
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (field, after) = after.split_once("}}").ok_or(Unusable::Open)?;
            let name = field.trim();
            let bare = name.strip_prefix('.').unwrap_or(name);
            let known = Field::ALL.iter().find(|(known, _)| *known == bare);
            let (_, field) = known.ok_or_else(|| Unusable::Unknown(name.to_owned()))?;
            parts.extend([Part::Text(before.into()), Part::Field(*field)]);
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        Ok(Self(parts))
    }

    pub(super) fn fill(&self, of: &Variables<'_>) -> String {
        self.0.iter().map(|part| part.filled(of)).collect()
    }
}

impl Part {
    fn filled(&self, of: &Variables<'_>) -> String {
        let Variables {
            service,
            domain,
            port,
            mode,
        } = of;
        match self {
            Self::Text(text) => text.to_string(),
            Self::Field(field) => match field {
                Field::Name => service.name.to_string(),
                Field::Namespace => service.namespace.to_string(),
                Field::Domain => domain.to_string(),
                Field::PortName => port.name.to_string(),
                Field::Port => port.port.to_string(),
                Field::NodePort => port
                    .node_port
                    .map(|port| port.to_string())
                    .unwrap_or_default(),
                Field::Mode => mode.to_string(),
            },
        }
    }
}

/// What a name is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variables<'a> {
    pub(super) service: &'a ObjectKey,
    pub(super) domain: &'a Hostname,
    pub(super) port: &'a ServicePort,
    pub(super) mode: &'a HeaderName,
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Field(field) => {
                    let known = Field::ALL.iter().find(|(_, known)| known == field);
                    write!(f, "{{{{ .{} }}}}", known.map_or("", |(name, _)| name))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{NameTemplate, Unusable};

    #[test]
    fn only_fields_are_known() {
        let text = "{{ .Service.Name }}.{{.Service.Namespace}}.svc.{{Domain}}";
        let template = NameTemplate::parse(text).map(|template| template.to_string());
        assert_eq!(
            template.as_deref(),
            Ok("{{ .Service.Name }}.{{ .Service.Namespace }}.svc.{{ .Domain }}")
        );
        assert_eq!(NameTemplate::parse("{{ .Service.Name"), Err(Unusable::Open));
        let unknown = NameTemplate::parse("{{ range .Ports }}");
        assert_eq!(unknown, Err(Unusable::Unknown("range .Ports".to_owned())));
    }
}
