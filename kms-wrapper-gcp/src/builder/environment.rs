//! The variables of Go's wrapper.

use std::path::PathBuf;

use kms_core::Result;
use kms_core::service::misconfigured;

const CREDENTIALS: &str = "GOOGLE_CREDENTIALS";

/// What the environment said when it was asked; nothing by default.
#[derive(Default)]
pub(super) struct Environment {
    asked: bool,
    project: Option<String>,
    location: Option<String>,
    ring: Option<String>,
    key: Option<String>,
    credentials: Option<String>,
}

impl Environment {
    pub(super) fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        Self {
            asked: true,
            project: set("GOOGLE_PROJECT"),
            location: set("GOOGLE_REGION"),
            ring: set("GCPCKMS_WRAPPER_KEY_RING").or_else(|| set("VAULT_GCPCKMS_SEAL_KEY_RING")),
            key: set("GCPCKMS_WRAPPER_CRYPTO_KEY").or_else(|| set("VAULT_GCPCKMS_SEAL_CRYPTO_KEY")),
            credentials: set(CREDENTIALS),
        }
    }

    /// The key that the variables name together; an empty name if they were not asked.
    pub(super) fn key_name(&self) -> Result<String> {
        let parts = [&self.project, &self.location, &self.ring, &self.key];
        if let [Some(project), Some(location), Some(ring), Some(key)] = parts {
            return Ok(format!(
                "projects/{project}/locations/{location}/keyRings/{ring}/cryptoKeys/{key}"
            ));
        }
        if !self.asked {
            return Ok(String::new());
        }
        let names = [
            "GOOGLE_PROJECT",
            "GOOGLE_REGION",
            "GCPCKMS_WRAPPER_KEY_RING",
            "GCPCKMS_WRAPPER_CRYPTO_KEY",
        ];
        let missing: Vec<_> = parts
            .into_iter()
            .zip(names)
            .filter_map(|(part, name)| part.is_none().then_some(name))
            .collect();
        Err(misconfigured("no key: variables are missing that name it")
            .with_context("missing", missing.join(", ")))
    }

    pub(super) fn credentials_file(&self) -> Result<Option<PathBuf>> {
        match self.credentials.as_deref() {
            // Some tools take the file's text there. As a path it would show in errors.
            Some(text) if text.trim_start().starts_with('{') => Err(misconfigured(
                "the variable holds the credentials themselves, and not the path of their file",
            )
            .with_context("variable", CREDENTIALS)),
            path => Ok(path.map(PathBuf::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_core::ErrorKind;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_variables_of_gos_wrapper_name_a_key_and_the_older_names_count_too() {
        let environment = read(&[
            ("GOOGLE_PROJECT", "p"),
            ("GOOGLE_REGION", "l"),
            ("GCPCKMS_WRAPPER_KEY_RING", ""),
            ("VAULT_GCPCKMS_SEAL_KEY_RING", "r"),
            ("GCPCKMS_WRAPPER_CRYPTO_KEY", "k"),
            ("VAULT_GCPCKMS_SEAL_CRYPTO_KEY", "other"),
            ("GOOGLE_CREDENTIALS", "/run/key.json"),
        ]);
        assert_eq!(
            environment.key_name().unwrap(),
            "projects/p/locations/l/keyRings/r/cryptoKeys/k"
        );
        let file = environment.credentials_file().unwrap();
        assert_eq!(file, Some("/run/key.json".into()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = read(&[("GOOGLE_REGION", "l"), ("GCPCKMS_WRAPPER_KEY_RING", "r")])
            .key_name()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert_eq!(
            error.context("missing"),
            Some("GOOGLE_PROJECT, GCPCKMS_WRAPPER_CRYPTO_KEY")
        );
    }

    #[test]
    fn credentials_in_the_variable_itself_are_refused_without_showing_them() {
        let error = read(&[("GOOGLE_CREDENTIALS", " {\"private_key\":\"hunter2\"}")])
            .credentials_file()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
