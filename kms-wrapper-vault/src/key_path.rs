//! Where a key is: the mount of the transit engine, and the key's name in it.

use std::fmt;

use kms_core::{Error, ErrorKind, Result};

/// A mount and a key name that mean in a URL exactly what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPath {
    mount: String,
    name: String,
}

impl KeyPath {
    /// # Errors
    ///
    /// `InvalidConfiguration` for names that a URL, a proxy or the service would read as something else.
    pub(crate) fn new(mount: &str, name: &str) -> Result<Self> {
        let mount = mount.trim_matches('/');
        check_mount(mount, "mount_path")?;
        // What transit takes as a key's name: no slash, no dot or hyphen at either end.
        let ends_well =
            |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric() || end == '_');
        let sound = is_segment(name)
            && ends_well(name.chars().next())
            && ends_well(name.chars().next_back());
        if !sound {
            return Err(refused(
                "a key name is of letters, digits, `_`, and within it `-` and `.`",
            )
            .with_context("key_name", name));
        }
        Ok(Self {
            mount: mount.to_owned(),
            name: name.to_owned(),
        })
    }

    pub(crate) fn mount(&self) -> &str {
        &self.mount
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The path of an operation, as policies name it: `transit/encrypt/app`.
    pub(crate) fn of(&self, operation: &str) -> String {
        format!("{}/{operation}/{}", self.mount, self.name)
    }
}

/// `transit/keys/app`.
impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of("keys"))
    }
}

/// Refuses a mount path that is not plain segments with single slashes between them.
pub(crate) fn check_mount(mount: &str, what: &'static str) -> Result<()> {
    if mount.split('/').all(is_segment) {
        return Ok(());
    }
    Err(
        refused("a mount path is of letters, digits, `_`, `-` and `.`, with `/` between its parts")
            .with_context(what, mount),
    )
}

fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_make_paths() {
        let key = KeyPath::new("/team/transit/", "app-1.root_key").unwrap();
        assert_eq!(key.of("encrypt"), "team/transit/encrypt/app-1.root_key");
        assert_eq!(key.to_string(), "team/transit/keys/app-1.root_key");
    }

    #[test]
    fn names_that_could_mean_another_key_are_refused() {
        for (mount, name) in [
            ("", "app"),
            ("/", "app"),
            ("a//b", "app"),
            ("../sys", "app"),
            ("a/./b", "app"),
            ("a b", "app"),
            ("a%2fb", "app"),
            ("a?b", "app"),
            ("transit", ""),
            ("transit", " "),
            ("transit", "."),
            ("transit", ".."),
            ("transit", "a/b"),
            ("transit", "a/../z"),
            ("transit", "a?x=y"),
            ("transit", "a#b"),
            ("transit", "a%2e"),
            ("transit", "-a"),
            ("transit", "a."),
            ("transit", "schlüssel"),
            ("transit", "a\n"),
        ] {
            let error = KeyPath::new(mount, name).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidConfiguration,
                "{mount} {name}"
            );
        }
    }
}
