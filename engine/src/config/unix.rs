//! Owners and permissions of the files of Unix sockets, as the configuration has them.

use crate::grant::number_of;

/// A file's owner and group, where they are said.
pub(super) type Owner = (Option<u32>, Option<u32>);

/// Reads an owner as chown(1) does: `USER`, `USER:GROUP` or `:GROUP`, by name or number.
pub(super) fn owner(text: &str) -> Result<Owner, String> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let find = |name: &str, file: &str| match name {
        "" => Some(None),
        name => name.parse().ok().or_else(|| number_of(file, name)).map(Some),
    };
    match (find(user, "/etc/passwd"), find(group, "/etc/group")) {
        (Some(user), Some(group)) if user.is_some() || group.is_some() => Ok((user, group)),
        _ => Err(format!("`{text}` is not an owner: expected USER, USER:GROUP or :GROUP, of users that there are")),
    }
}

/// Writes an owner, with numbers.
pub(super) fn owner_text((user, group): Owner) -> String {
    let number = |id: Option<u32>| id.map_or(String::new(), |id| id.to_string());
    if group.is_some() { format!("{}:{}", number(user), number(group)) } else { number(user) }
}

/// Reads permissions, in octal digits as chmod(1) does.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(mode),
        _ => Err(format!("`{text}` is not a mode: expected octal digits up to 777, as in 0660")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Owners are said by name or number, permissions in octal digits; what is none is refused.
    #[test]
    fn owners_and_modes() {
        assert_eq!(owner("root:root"), Ok((Some(0), Some(0))));
        assert_eq!(owner(":7"), Ok((None, Some(7))));
        assert_eq!(owner("7"), Ok((Some(7), None)));
        for text in ["", ":", "nobody at all", "0:x y", "-1"] {
            assert!(owner(text).is_err(), "{text}");
        }
        for written in [(Some(0), Some(5)), (None, Some(7)), (Some(7), None)] {
            assert_eq!(owner(&owner_text(written)), Ok(written));
        }
        assert_eq!((mode("0660"), mode("600")), (Ok(0o660), Ok(0o600)));
        for text in ["", "8", "rw", "1777", "+660", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
