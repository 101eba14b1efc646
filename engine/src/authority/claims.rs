//! What claims mean: from the JSON of a token, or of the hook, to a grant.
//!
//! ```text
//!   {"sub": "anna", "exp": 1790000000, "corecast": {"publish": ["rooms/+/anna"], "subscribe": ["rooms/#", "users/{sub}/#"],
//!                                                   "limits": {"connections": 3}}}
//! ```
//!
//! Owns: the meaning of each claim, the bounds of all of them. Touches: JSON that somebody has vouched for. Never: a key, a clock.
//! A claim of a wrong type is refused, and not taken for absent: what was meant as a bound would be none.

use corecast_protocol::topic;
use serde_json::{Map, Value};

use crate::grant::{Grant, GrantLimits, NAME_BYTES_MAX, Patterns};

/// Longest subject, and longest `jti`, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// What stands for the subject in a pattern.
const SUBJECT: &str = "{sub}";

/// JSON.
pub type Claims = Map<String, Value>;

/// Who somebody is, and since when: the claims that RFC 7519 names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `sub`.
    pub subject: Box<str>,
    /// `name`, or the subject.
    pub name: Box<str>,
    /// `jti`.
    pub token_id: Box<str>,
    /// `iat`, in seconds since 1970.
    pub issued_s: Option<u64>,
    /// `nbf`, in seconds since 1970.
    pub not_before_s: Option<u64>,
    /// `exp`, in seconds since 1970.
    pub expires_s: Option<u64>,
}

/// Reads who somebody is.
///
/// # Errors
/// Which claim is wrong.
pub fn identity(claims: &Claims) -> Result<Identity, &'static str> {
    let subject = text(claims, "sub", "the claim `sub` is no text of at most 255 bytes")?;
    let name = match claims.get("name") {
        // For people only, and often something else than a text in what identity providers issue.
        Some(Value::String(name)) if !name.is_empty() => name.as_str(),
        _ => subject,
    };
    Ok(Identity {
        subject: subject.into(),
        name: cut(name).into(),
        token_id: text(claims, "jti", "the claim `jti` is no text of at most 255 bytes")?.into(),
        issued_s: time(claims, "iat", "the claim `iat` is no time")?,
        not_before_s: time(claims, "nbf", "the claim `nbf` is no time")?,
        expires_s: time(claims, "exp", "the claim `exp` is no time")?,
    })
}

/// Says whether somebody of the list is meant by `aud`; with an empty list, only if nobody is named.
///
/// # Errors
/// Nobody of them is, or the claim is wrong.
pub fn audience(claims: &Claims, audiences: &[String]) -> Result<(), &'static str> {
    let other = "the token is meant for others (aud)";
    let known = |one: &Value| match one {
        Value::String(one) => Ok(audiences.contains(one)),
        _ => Err("the claim `aud` is neither a text nor a list of texts"),
    };
    match claims.get("aud") {
        None if audiences.is_empty() => Ok(()),
        None => Err("the token does not say for whom it is meant (aud)"),
        Some(Value::Array(list)) => {
            let mut is_meant = false;
            for one in list {
                is_meant |= known(one)?;
            }
            if is_meant { Ok(()) } else { Err(other) }
        }
        Some(one) => known(one)?.then_some(()).ok_or(other),
    }
}

/// Says whether somebody of the list issued it; an empty list takes everybody.
///
/// # Errors
/// Nobody of them did, or the claim is wrong.
pub fn issuer(claims: &Claims, issuers: &[String]) -> Result<(), &'static str> {
    match claims.get("iss") {
        None | Some(Value::String(_)) if issuers.is_empty() => Ok(()),
        Some(Value::String(issuer)) if issuers.contains(issuer) => Ok(()),
        Some(Value::String(_)) => Err("the token is issued by somebody else (iss)"),
        None => Err("the token does not say who issued it (iss)"),
        Some(_) => Err("the claim `iss` is no text"),
    }
}

/// Returns what somebody may do: `publish` and `subscribe`, lists of patterns, and `limits`.
///
/// # Errors
/// What of it is wrong.
pub fn rights(identity: &Identity, object: Option<&Value>) -> Result<Grant, &'static str> {
    let mut grant = Grant {
        subject: identity.subject.clone(),
        token_id: identity.token_id.clone(),
        issued_s: identity.issued_s.unwrap_or(0),
        expires_s: identity.expires_s.unwrap_or(u64::MAX),
        ..Grant::nothing(&identity.name)
    };
    let object = match object {
        None => {
            grant.unlisted = true;
            return Ok(grant);
        }
        Some(Value::Object(object)) => object,
        Some(_) => return Err("what the claims allow is no object"),
    };
    grant.publish = patterns(object, "publish", &grant.subject)?;
    grant.subscribe = patterns(object, "subscribe", &grant.subject)?;
    grant.unlisted = !object.contains_key("publish") && !object.contains_key("subscribe");
    grant.limits = match object.get("limits") {
        None => GrantLimits::default(),
        Some(Value::Object(object)) => limits(object)?,
        Some(_) => return Err("`limits` is no object"),
    };
    if grant.subject.is_empty() && grant.limits.need_subject() {
        // What was meant as a bound would be none.
        return Err("connections and subscriptions-per-subject are limits of a subject, and there is no `sub`");
    }
    Ok(grant)
}

/// Reads a list of patterns, with the subject where they say so.
fn patterns(object: &Claims, key: &str, subject: &str) -> Result<Patterns, &'static str> {
    let list = match object.get(key) {
        None => return Ok(Patterns::default()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("`publish` and `subscribe` are lists of patterns"),
    };
    let mut patterns = Vec::new();
    for pattern in list {
        let Value::String(pattern) = pattern else { return Err("a pattern is no text") };
        patterns.push(with_subject(pattern, subject)?);
    }
    let made = Patterns::new(patterns.iter().map(String::as_str));
    made.map_err(|_| "a pattern is none, or there are more than 64 of them")
}

/// Puts the subject into a pattern. It has to be one plain segment: one of `#`, `+` or `a/b` would let its owner reach what is others'.
///
/// # Errors
/// It is not.
pub fn with_subject(pattern: &str, subject: &str) -> Result<String, &'static str> {
    if !pattern.contains(SUBJECT) {
        return Ok(pattern.to_owned());
    }
    if subject.contains('/') || topic::validate(subject).is_err() {
        return Err("the subject cannot stand for {sub}: it is no plain segment of a topic");
    }
    Ok(pattern.replace(SUBJECT, subject))
}

fn limits(object: &Claims) -> Result<GrantLimits, &'static str> {
    let mut limits = GrantLimits::default();
    for (name, value) in object {
        let number = value.as_u64().ok_or("a limit is no whole number")?;
        limits.set(name, u32::try_from(number).unwrap_or(u32::MAX))?;
    }
    Ok(limits)
}

fn text<'c>(claims: &'c Claims, key: &str, wrong: &'static str) -> Result<&'c str, &'static str> {
    match claims.get(key) {
        None => Ok(""),
        Some(Value::String(text)) if text.len() <= SUBJECT_BYTES_MAX => Ok(text),
        Some(_) => Err(wrong),
    }
}

/// Reads a time; RFC 7519 lets it have a fraction.
fn time(claims: &Claims, key: &str, wrong: &'static str) -> Result<Option<u64>, &'static str> {
    let Some(value) = claims.get(key) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..1e15).contains(seconds))?;
        Some(seconds as u64)
    });
    seconds.map(Some).ok_or(wrong)
}

/// Cuts a name to what is kept of it, between two characters.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// Fuzz body: whatever the claims, what comes of them holds the bounds, and nobody gets more by his name than others.
///
/// # Panics
/// If not.
pub fn fuzz_claims(data: &[u8]) {
    let Ok(claims) = serde_json::from_slice::<Claims>(data) else { return };
    let Ok(identity) = identity(&claims) else { return };
    assert!(identity.subject.len() <= SUBJECT_BYTES_MAX && identity.token_id.len() <= SUBJECT_BYTES_MAX);
    let _ = (audience(&claims, &["me".to_owned()]), issuer(&claims, &["me".to_owned()]));
    for object in [claims.get("corecast"), Some(&Value::Object(claims.clone()))] {
        let Ok(grant) = rights(&identity, object) else { continue };
        assert!(grant.name.len() <= NAME_BYTES_MAX);
        for pattern in grant.publish.iter().chain(grant.subscribe.iter()) {
            assert!(corecast_protocol::pattern::validate(pattern).is_ok(), "{pattern}");
        }
    }
    if let Ok(pattern) = with_subject("users/{sub}/#", &identity.subject) {
        assert!(
            pattern.split('/').count() == 3 && pattern.bytes().filter(|b| b"+#".contains(b)).count() == 1,
            "{pattern}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Action;
    use serde_json::json;

    fn object(value: Value) -> Claims {
        let Value::Object(object) = value else { panic!("an object") };
        object
    }

    fn grant(value: Value) -> Result<Grant, &'static str> {
        let claims = object(value);
        rights(&identity(&claims)?, claims.get("corecast"))
    }

    /// Each claim finds its place in the grant.
    #[test]
    fn claims_become_a_grant() {
        let grant = grant(json!({
            "sub": "anna", "name": "Anna K.", "jti": "7", "iat": 5, "exp": 9.5,
            "corecast": {
                "publish": ["rooms/+/{sub}", "drafts/user-{sub}"], "subscribe": ["#"],
                "limits": {
                    "connections": 3, "subscriptions": 10, "subscriptions-per-subject": 20,
                    "publish-rate": 5, "publish-bytes": 99_999_999_999_u64, "topic-rate": 2, "bandwidth": 8000,
                },
                "payload": "not ours",
            },
        }));
        let grant = grant.unwrap();
        assert_eq!((&*grant.subject, &*grant.name, &*grant.token_id), ("anna", "Anna K.", "7"));
        assert_eq!((grant.issued_s, grant.expires_s), (5, 9));
        assert!(grant.gives(Action::Publish, "rooms/1/anna") && grant.gives(Action::Publish, "drafts/user-anna"));
        assert!(!grant.gives(Action::Publish, "rooms/1/bert") && grant.gives(Action::Subscribe, "any/thing"));
        let limits = GrantLimits {
            connections: Some(3),
            subscriptions: Some(10),
            subscriptions_per_subject: Some(20),
            publish_rate: Some(5),
            publish_bytes: Some(u32::MAX),
            topic_rate: Some(2),
            bandwidth: Some(8000),
        };
        assert_eq!(grant.limits, limits);
    }

    /// Whoever has a token that says nothing may nothing.
    #[test]
    fn silence_gives_nothing() {
        for claims in [json!({"sub": "a"}), json!({}), json!({"corecast": {}}), json!({"corecast": {"publish": []}})] {
            let grant = grant(claims).unwrap();
            assert!(!grant.gives(Action::Publish, "a") && !grant.gives(Action::Subscribe, "a"));
            assert_eq!(grant.expires_s, u64::MAX);
        }
        // Where the hook is asked, it makes a difference whether there is a list.
        for (claims, expected) in [
            (json!({}), true),
            (json!({"corecast": {"limits": {}}}), true),
            (json!({"corecast": {"publish": []}}), false),
            (json!({"corecast": {"subscribe": ["a"]}}), false),
        ] {
            assert_eq!(grant(claims.clone()).unwrap().unlisted, expected, "{claims}");
        }
    }

    /// A subject that is more than one plain segment never stands in a pattern: it would widen it.
    #[test]
    fn subjects_do_not_widen() {
        for subject in
            ["#", "+", "a/b", "", "a/", "/", "..", ".", "$sys", "a#", "+a", "*", "a\nb", "\u{85}", &"x".repeat(256)]
        {
            let claims = json!({"sub": subject, "corecast": {"subscribe": ["users/{sub}/#"]}});
            assert!(grant(claims).is_err(), "{subject:?}");
            assert!(with_subject("users/{sub}", subject).is_err() || subject.len() > 255, "{subject:?}");
        }
        for subject in ["anna", "auth0|5f7c", "a b", "é", "x@y.example", "{sub}"] {
            let claims = json!({"sub": subject, "corecast": {"subscribe": ["users/{sub}/#"]}});
            let grant = grant(claims).unwrap();
            assert!(grant.gives(Action::Subscribe, &format!("users/{subject}/inbox")), "{subject}");
            assert!(!grant.gives(Action::Subscribe, "users/other/inbox"), "{subject}");
        }
        // It does no harm where it does not stand in a pattern.
        assert!(grant(json!({"sub": "#", "corecast": {"subscribe": ["a"]}})).is_ok());
    }

    /// What is of a wrong type is refused, each with a reason of its own.
    #[test]
    fn wrong_types_are_refused() {
        for (claims, expected) in [
            (json!({"sub": 5}), "`sub`"),
            (json!({"sub": null}), "`sub`"),
            (json!({"jti": ["a"]}), "`jti`"),
            (json!({"exp": "tomorrow"}), "`exp`"),
            (json!({"exp": -1}), "`exp`"),
            (json!({"exp": 1e300}), "`exp`"),
            (json!({"nbf": {}}), "`nbf`"),
            (json!({"iat": true}), "`iat`"),
            (json!({"corecast": []}), "no object"),
            (json!({"corecast": {"publish": "a/#"}}), "lists of patterns"),
            (json!({"corecast": {"publish": [5]}}), "no text"),
            (json!({"corecast": {"subscribe": ["a#"]}}), "a pattern is none"),
            (json!({"corecast": {"subscribe": vec!["a"; 65]}}), "more than 64"),
            (json!({"corecast": {"limits": 5}}), "`limits` is no object"),
            (json!({"corecast": {"limits": {"connections": "3"}}}), "no whole number"),
            (json!({"corecast": {"limits": {"connections": -1}}}), "no whole number"),
            (json!({"corecast": {"limits": {"conections": 1}}}), "limits are"),
            (json!({"sub": "a", "corecast": {"limits": {"publish-rate": 0}}}), "1 or more"),
            (json!({"corecast": {"limits": {"connections": 1}}}), "there is no `sub`"),
            (json!({"corecast": {"limits": {"subscriptions-per-subject": 1}}}), "there is no `sub`"),
        ] {
            let error = grant(claims.clone()).unwrap_err();
            assert!(error.contains(expected), "{claims}: {error}");
        }
    }

    /// Who is named in `aud` and `iss` has to be known; whoever names somebody is refused where nobody is known.
    #[test]
    fn audiences_and_issuers() {
        let (me, none) = (["me".to_owned(), "us".to_owned()], []);
        for (claims, with_me, with_none) in [
            (json!({}), false, true),
            (json!({"aud": "me"}), true, false),
            (json!({"aud": ["x", "us"]}), true, false),
            (json!({"aud": []}), false, false),
            (json!({"aud": "x"}), false, false),
            (json!({"aud": ["me", 5]}), false, false),
            (json!({"aud": {"a": "me"}}), false, false),
        ] {
            let claims = object(claims);
            assert_eq!(audience(&claims, &me).is_ok(), with_me, "{claims:?}");
            assert_eq!(audience(&claims, &none).is_ok(), with_none, "{claims:?}");
        }
        for (claims, with_me, with_none) in [
            (json!({}), false, true),
            (json!({"iss": "me"}), true, true),
            (json!({"iss": "x"}), false, true),
            (json!({"iss": ["me"]}), false, false),
        ] {
            let claims = object(claims);
            assert_eq!(issuer(&claims, &me).is_ok(), with_me, "{claims:?}");
            assert_eq!(issuer(&claims, &none).is_ok(), with_none, "{claims:?}");
        }
    }

    /// Long names are cut between two characters.
    #[test]
    fn names_are_cut() {
        let grant = grant(json!({"sub": "s", "name": "é".repeat(60)})).unwrap();
        assert_eq!(&*grant.name, "é".repeat(32));
    }
}
