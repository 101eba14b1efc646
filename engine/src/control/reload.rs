//! Reading the configuration again: all of it holds from then on, or nothing does.
//!
//! Owns: what is compared, and what is said about it. Every outcome is logged too, so that SIGHUP has its answer.

use serde_json::json;

use super::{Outcome, Sources};
use crate::admin::guard::Tokens;
use crate::authority::{Prepared, Settings};
use crate::config::{self, Config};
use crate::edge::Serving;
use crate::io::check::StartError;

/// What was read.
#[derive(Debug)]
pub(super) struct Found {
    /// All settings.
    pub(super) config: Config,
    /// Those of them that have changed.
    pub(super) changed: Vec<&'static str>,
    /// Certificates, if other ones are to be shown.
    pub(super) serving: Option<Serving>,
    /// Tokens of operators.
    pub(super) tokens: Tokens,
}

/// Reads the configuration again, and the files of certificates.
///
/// # Errors
/// What is said if nothing changes: because nothing has, because it is wrong, or because it cannot while the engine runs.
pub(super) fn read(sources: &Sources) -> Result<Found, Outcome> {
    let Some(read_again) = &sources.read_again else {
        let tokens = Tokens::read(sources.config.admin_token.as_deref()).map_err(|problem| wrong(&[problem]))?;
        files(sources, &sources.config.authority)?;
        let changed: &[&str] = if sources.guard.set(tokens) { &["admin-token"] } else { &[] };
        let reason = "there is no configuration file to read again; start with --config FILE";
        tracing::info!(changed = changed.join(" "), "{reason}");
        return Err(said(200, &json!({ "changed": changed, "reason": reason })));
    };
    let config = read_again().map_err(|problems| wrong(&problems))?;
    let changes = config::changes(&sources.config, &config);
    let refused: Vec<_> = changes.iter().filter(|setting| !setting.reloads).map(|setting| setting.key).collect();
    if !refused.is_empty() {
        let reason = "these settings are read at start only, so nothing was changed; restart, or take them back";
        tracing::error!(refused = refused.join(" "), "the configuration was not loaded: {reason}");
        return Err(said(409, &json!({ "refused": refused, "reason": reason })));
    }
    let mut changed: Vec<_> = changes.iter().map(|setting| setting.key).collect();
    // Files may hold something else under the same name.
    let serving = match (&sources.tls, config.identity()) {
        (Some(tls), Some(identity)) => {
            let serving = tls.load(&identity).map_err(|problems| wrong(&problems))?;
            if serving.is_some() && !changed.contains(&"tls-cert") {
                changed.push("tls-cert");
            }
            serving
        }
        _ => None,
    };
    let tokens = Tokens::read(config.admin_token.as_deref()).map_err(|problem| wrong(&[problem]))?;
    if sources.guard.differs(&tokens) && !changed.contains(&"admin-token") {
        changed.push("admin-token");
    }
    files(sources, &config.authority)?;
    if changed.is_empty() {
        tracing::info!("the configuration was read again, and is as before");
        return Err(said(200, &json!({ "changed": [] })));
    }
    Ok(Found { config, changed, serving, tokens })
}

/// Has the authority go by what is in the files of its settings now.
fn files(sources: &Sources, settings: &Settings) -> Result<(), Outcome> {
    let Some(authority) = &sources.authority else { return Ok(()) };
    let prepared = Prepared::read(settings).map_err(|problems| wrong(&problems))?;
    if authority.set(prepared) {
        return Ok(());
    }
    let reason = "the authority has too much to do, so nothing was changed; try again";
    tracing::error!("the configuration was not loaded: {reason}");
    Err(said(503, &json!({ "reason": reason })))
}

fn wrong(problems: &[StartError]) -> Outcome {
    for StartError { cause, cure } in problems {
        tracing::error!(cause, cure, "the configuration was not loaded: it is wrong, and the old one goes on");
    }
    let errors: Vec<_> =
        problems.iter().map(|StartError { cause, cure }| json!({ "cause": cause, "cure": cure })).collect();
    said(422, &json!({ "errors": errors, "reason": "the configuration is wrong, so nothing was changed" }))
}

/// Returns what is said when all shards hold to what was changed, except those that are late.
pub(super) fn outcome(changed: &[&str], late: &[usize]) -> Outcome {
    if late.is_empty() {
        tracing::info!(changed = changed.join(" "), "the configuration was loaded");
        return said(200, &json!({ "changed": changed }));
    }
    let reason = "these shards stand still, and will hold to the new configuration when they go on";
    tracing::warn!(changed = changed.join(" "), ?late, "the configuration was loaded, but {reason}");
    said(504, &json!({ "changed": changed, "late": late, "reason": reason }))
}

fn said(status: u16, body: &serde_json::Value) -> Outcome {
    Outcome { status, body: body.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::Hosts;
    use super::*;
    use crate::admin::guard::Guard;
    use crate::config::Host;

    fn sources(new: Result<Config, Vec<StartError>>) -> Sources {
        let config = Config::default_on(&host());
        Sources {
            config,
            read_again: Some(Box::new(move || new.clone())),
            hosts: Hosts::default(),
            guard: Guard::default(),
            tls: None,
            authority: None,
            observed: None,
            supervisor: Default::default(),
        }
    }

    fn host() -> Host {
        Host { cores: vec![0], memory_bytes: 1 << 30 }
    }

    /// What can change is told; one setting that cannot keeps all others from it, and all that cannot are named.
    #[test]
    fn all_or_nothing() {
        let base = Config::default_on(&host());
        let found = read(&sources(Ok(Config { history_messages: 1, jsonp: false, ..base.clone() }))).unwrap();
        assert_eq!(found.changed, ["history-messages", "jsonp"]);
        let new = Config { history_messages: 1, shards: 2, message_bytes_max: 1, ..base.clone() };
        let outcome = read(&sources(Ok(new))).unwrap_err();
        assert_eq!(outcome.status, 409);
        assert!(outcome.body.contains("\"refused\":[\"shards\",\"max-message\"]"), "{outcome:?}");
        assert_eq!(read(&sources(Ok(base))).unwrap_err(), said(200, &json!({ "changed": [] })));
    }

    /// What is wrong is told with cause and cure; without a file there is nothing to read.
    #[test]
    fn what_is_wrong_is_told() {
        let problem = StartError { cause: "a b".to_owned(), cure: "c d".to_owned() };
        let outcome = read(&sources(Err(vec![problem]))).unwrap_err();
        assert_eq!(outcome.status, 422);
        assert!(outcome.body.contains("{\"cause\":\"a b\",\"cure\":\"c d\"}"), "{outcome:?}");
        let outcome = read(&Sources { read_again: None, ..sources(Err(vec![])) }).unwrap_err();
        assert!(outcome.status == 200 && outcome.body.contains("no configuration file"), "{outcome:?}");
    }

    /// A shard that stands still is named.
    #[test]
    fn who_is_late_is_named() {
        let outcome = outcome(&["lag"], &[3, 5]);
        assert_eq!(outcome.status, 504);
        assert!(
            outcome.body.contains("\"late\":[3,5]") && outcome.body.contains("\"changed\":[\"lag\"]"),
            "{outcome:?}"
        );
    }
}
