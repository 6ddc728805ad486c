//! The variables of this wrapper, and those of Vault's seal of the same kind.

use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;
use kms_core::Result;

use super::{Pkcs11WrapperBuilder, misconfigured};
use crate::pin::Pin;

/// What the environment said when it was asked; nothing by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    module: Option<PathBuf>,
    token_label: Option<String>,
    key_label: Option<String>,
    key_id: Option<String>,
    pin: Option<Pin>,
    pin_file: Option<PathBuf>,
}

impl Environment {
    pub(super) fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let either = |own: &str, of_vault: &str| set(own).or_else(|| set(of_vault));
        Self {
            module: either("PKCS11_WRAPPER_MODULE", "VAULT_HSM_LIB").map(PathBuf::from),
            token_label: either("PKCS11_WRAPPER_TOKEN_LABEL", "VAULT_HSM_TOKEN_LABEL"),
            key_label: either("PKCS11_WRAPPER_KEY_LABEL", "VAULT_HSM_KEY_LABEL"),
            key_id: either("PKCS11_WRAPPER_KEY_ID", "VAULT_HSM_KEY_ID"),
            pin: either("PKCS11_WRAPPER_PIN", "VAULT_HSM_PIN").map(Pin::new),
            pin_file: set("PKCS11_WRAPPER_PIN_FILE").map(PathBuf::from),
        }
    }

    /// Gives the builder what it lacks.
    pub(super) fn fill_in(self, builder: &mut Pkcs11WrapperBuilder) -> Result<()> {
        if builder.module.is_none() {
            builder.module = self.module;
        }
        if builder.token.is_any() {
            builder.token.label = self.token_label;
        }
        if builder.key.label.is_none() && builder.key.id.is_none() {
            builder.key.label = self.key_label;
            builder.key.id = self.key_id.as_deref().map(id).transpose()?;
        }
        if builder.pin.is_none() && builder.pin_file.is_none() {
            builder.pin = self.pin;
            builder.pin_file = self.pin_file;
        }
        Ok(())
    }
}

fn id(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    HEXLOWER_PERMISSIVE
        .decode(digits.as_bytes())
        .map_err(|_| misconfigured("the key's id is not in hex").with_context("key_id", hex))
}

#[cfg(test)]
mod tests {
    use kms_core::ErrorKind;

    use super::*;

    fn builder(variables: &[(&str, &str)]) -> Pkcs11WrapperBuilder {
        let environment = Environment::read(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        });
        Pkcs11WrapperBuilder {
            environment,
            ..Pkcs11WrapperBuilder::new()
        }
    }

    fn shown(builder: Pkcs11WrapperBuilder) -> String {
        format!("{:?}", builder.build().unwrap())
    }

    const OF_VAULT: [(&str, &str); 5] = [
        ("VAULT_HSM_LIB", "/opt/old.so"),
        ("VAULT_HSM_TOKEN_LABEL", "old-token"),
        ("VAULT_HSM_KEY_LABEL", "old-key"),
        ("VAULT_HSM_KEY_ID", "0x0aFF"),
        ("VAULT_HSM_PIN", "hunter2-old"),
    ];

    #[test]
    fn the_first_variable_that_is_not_empty_counts() {
        let shown_alone = shown(builder(&OF_VAULT));
        for part in ["/opt/old.so", "old-token", "old-key", "[10, 255]"] {
            assert!(shown_alone.contains(part), "{shown_alone}");
        }
        let own = [
            ("PKCS11_WRAPPER_MODULE", "/opt/new.so"),
            ("PKCS11_WRAPPER_TOKEN_LABEL", ""),
            ("PKCS11_WRAPPER_KEY_LABEL", "new-key"),
            ("PKCS11_WRAPPER_KEY_ID", "01"),
        ];
        let shown = shown(builder(&[&own[..], &OF_VAULT].concat()));
        for part in ["/opt/new.so", "old-token", "new-key", "[1]"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn explicit_settings_win_and_are_not_mixed_with_others_of_the_same_thing() {
        let shown = shown(
            builder(&OF_VAULT)
                .module_name("mine")
                .token_serial("0123")
                .key_label("mine")
                .pin_file("/run/pin"),
        );
        assert!(shown.contains("libmine."), "{shown}");
        assert!(!shown.contains("old"), "{shown}");
        assert!(!shown.contains("255"), "{shown}");
        assert!(shown.contains("/run/pin"), "{shown}");
    }

    #[test]
    fn an_id_that_is_not_hex_and_two_pins_are_refused() {
        for variable in [
            ("PKCS11_WRAPPER_KEY_ID", "0xyz"),
            ("PKCS11_WRAPPER_PIN_FILE", "/run/pin"),
        ] {
            let error = builder(&[&[variable][..], &OF_VAULT].concat()).build();
            assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
        }
    }

    #[test]
    fn nothing_shows_the_pin() {
        let builder = builder(&OF_VAULT);
        let shown = format!("{builder:?} {:?}", builder.clone().build());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
