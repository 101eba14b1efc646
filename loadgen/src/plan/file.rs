//! Plans as TOML files. The forms are those of the types, mistakes are told with their line and column.

use std::path::Path;

use super::{CannotStart, Plan};

impl Plan {
    /// Reads a plan; what it does not say is as by default.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn from_toml(text: &str) -> Result<Plan, CannotStart> {
        toml::from_str(text).map_err(|error| {
            CannotStart::new(
                format!("the plan cannot be read: {}", error.to_string().trim_end()),
                "compare with `corecast-load fan-out --print-plan`",
            )
        })
    }

    /// Reads a plan from a file.
    ///
    /// # Errors
    /// Why the file cannot be read, or the first mistake in it.
    pub fn from_file(path: &Path) -> Result<Plan, CannotStart> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            CannotStart::new(format!("cannot read {}: {error}", path.display()), "give --plan the name of a TOML file")
        })?;
        Plan::from_toml(&text)
            .map_err(|CannotStart { cause, cure }| CannotStart { cause: format!("{}: {cause}", path.display()), cure })
    }

    /// Writes the plan.
    ///
    /// # Panics
    /// Never: every plan has a form in TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plans hold nothing that TOML has no form for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Audience, Generic, Kind, Load, Phase, Scenario, Slow, Stream, Tls, Transport};

    fn mistake(text: &str) -> String {
        Plan::from_toml(text).unwrap_err().cause
    }

    /// Every ready-made plan is read back as it was written, and so is one that says everything.
    #[test]
    fn plans_round_trip() {
        let full = Plan {
            topic_prefix: "mine".to_owned(),
            slow: Some(Slow::new(0.25, 1000)),
            server_pid: Some(7),
            tls: Some(Tls { ca: "ca.pem".into(), name: "localhost".to_owned() }),
            transport: Transport::Generic,
            generic: Some(Generic {
                subprotocol: Some("mqtt".to_owned()),
                talk: vec![r">\x10 {id}".to_owned(), "<\"ok\"".to_owned()],
                answers: vec![("PING".to_owned(), "PONG\r\n".to_owned())],
                publish_connect: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 9))),
                ..Generic::default()
            }),
            cores: vec![1, 0],
            phases: vec![
                Phase { ramp: Some(5), under_way: Some(9), ..Phase::connect() },
                Phase {
                    name: Some("both".to_owned()),
                    messages: Some(3),
                    to: Some(Audience::All),
                    bytes: Some(99),
                    warm_up_seconds: Some(0.5),
                    also: vec![Stream { to: Some(Audience::Own), rate: Some(2.5), ..Stream::default() }],
                    ..Phase::publish(Load::Open { rate: 2.0 })
                },
                Phase { leaving: Some(2.0), seconds: Some(1.0), ..Phase::new(Kind::Churn) },
            ],
            ..Plan::default()
        };
        let made = <Scenario as clap::ValueEnum>::value_variants().iter().map(|scenario| scenario.plan());
        for plan in made.chain([full, Plan::default()]) {
            assert_eq!(Plan::from_toml(&plan.to_toml()).unwrap(), plan);
        }
    }

    /// What a file does not say is as by default.
    #[test]
    fn files_say_what_differs() {
        let plan = Plan::from_toml("connections = 7\ntransport = \"raw\"\n[[phase]]\nkind = \"connect\"\n").unwrap();
        assert_eq!((plan.connections, plan.transport, plan.bytes), (7, Transport::Raw, 512));
        assert_eq!(plan.phases, [Phase::connect()]);
    }

    /// Keys that nobody knows and values of the wrong kind are told with their line.
    #[test]
    fn mistakes_are_told_with_their_place() {
        let text = mistake("connections = 7\nconections = 8\n");
        assert!(text.contains("line 2, column 1") && text.contains("unknown field `conections`"), "{text}");
        let text = mistake("connections = 7\n[[phase]]\nkind = \"publish\"\nrte = 5\n");
        assert!(text.contains("line 4, column 1") && text.contains("unknown field `rte`"), "{text}");
        let text = mistake("[[phase]]\nkind = \"dance\"\n");
        assert!(text.contains("line 2, column 8") && text.contains("unknown variant `dance`"), "{text}");
        let text = mistake("connections = -1\n");
        assert!(text.contains("line 1, column 15"), "{text}");
        let text = mistake("[[phase]]\nrate = 1\n");
        assert!(text.contains("missing field `kind`"), "{text}");
        assert!(mistake("connect = [\"localhost\"]").contains("line 1"));
        let text = Plan::from_file(Path::new("/nowhere/plan.toml")).unwrap_err().cause;
        assert!(text.contains("/nowhere/plan.toml"), "{text}");
    }
}
