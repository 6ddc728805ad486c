//! What the environment says.

use std::ffi::OsString;
use std::path::PathBuf;

use kms_core::{Error, Result};

use super::{TransitWrapperBuilder, misconfigured};
use crate::auth::Auth;
use crate::builder::proxy::Ambient;
use crate::credential::Hidden;
use crate::transport::pem::Pem;

/// The variables as they were when [`from_env`](TransitWrapperBuilder::from_env) was called.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    variables: Vec<(&'static str, Variable)>,
}

#[derive(Clone, Debug)]
enum Variable {
    Text(Hidden),
    /// A value that is not UTF-8.
    Unreadable,
}

const READ: &[&str] = &[
    "VAULT_ADDR",
    "VAULT_TOKEN",
    "VAULT_NAMESPACE",
    "VAULT_CACERT_BYTES",
    "VAULT_CACERT",
    "VAULT_CAPATH",
    "VAULT_CLIENT_CERT",
    "VAULT_CLIENT_KEY",
    "VAULT_TLS_SERVER_NAME",
    "VAULT_SKIP_VERIFY",
    "TRANSIT_WRAPPER_MOUNT_PATH",
    "VAULT_TRANSIT_SEAL_MOUNT_PATH",
    "TRANSIT_WRAPPER_KEY_NAME",
    "VAULT_TRANSIT_SEAL_KEY_NAME",
    "TRANSIT_WRAPPER_DISABLE_RENEWAL",
    "VAULT_TRANSIT_SEAL_DISABLE_RENEWAL",
    "VAULT_AGENT_ADDR",
    "VAULT_PROXY_ADDR",
    "VAULT_HTTP_PROXY",
    "HTTPS_PROXY",
    "https_proxy",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

impl Environment {
    pub(super) fn read(of: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let variables = READ
            .iter()
            .filter_map(|name| {
                let value = of(name).filter(|value| !value.is_empty())?;
                let variable = match value.into_string() {
                    Ok(text) => Variable::Text(Hidden::new(text)),
                    Err(_) => Variable::Unreadable,
                };
                Some((*name, variable))
            })
            .collect();
        Self { variables }
    }

    /// The builder, with what it lacked.
    pub(super) fn fill_in(
        self,
        mut builder: TransitWrapperBuilder,
    ) -> Result<TransitWrapperBuilder> {
        let agent = "VAULT_AGENT_ADDR";
        if self.variables.iter().any(|(known, _)| *known == agent) {
            return Err(about(
                agent,
                "it would send the token elsewhere, and is not supported; unset it, and give the address to use",
            ));
        }
        if self.switch("VAULT_SKIP_VERIFY")? == Some(true) && !builder.accept_invalid {
            return Err(about(
                "VAULT_SKIP_VERIFY",
                "it asks to trust any server; give the CA in VAULT_CACERT, or say dangerous().accept_invalid_certificates() in code",
            ));
        }
        fill(&mut builder.address, || self.text(&["VAULT_ADDR"]))?;
        fill(&mut builder.namespace, || self.text(&["VAULT_NAMESPACE"]))?;
        fill(&mut builder.mount_path, || {
            self.text(&[
                "TRANSIT_WRAPPER_MOUNT_PATH",
                "VAULT_TRANSIT_SEAL_MOUNT_PATH",
            ])
        })?;
        fill(&mut builder.key_name, || {
            self.text(&["TRANSIT_WRAPPER_KEY_NAME", "VAULT_TRANSIT_SEAL_KEY_NAME"])
        })?;
        fill(&mut builder.auth, || {
            Ok(self
                .hidden(&["VAULT_TOKEN"])?
                .map(|token| Auth::token(token.expose())))
        })?;
        fill(&mut builder.server_name, || {
            self.text(&["VAULT_TLS_SERVER_NAME"])
        })?;
        fill(&mut builder.renewal, || {
            let disabled = match self.switch("TRANSIT_WRAPPER_DISABLE_RENEWAL")? {
                None => self.switch("VAULT_TRANSIT_SEAL_DISABLE_RENEWAL")?,
                set => set,
            };
            Ok(disabled.map(|disabled| !disabled))
        })?;
        fill(&mut builder.proxy, || {
            let named = self.hidden(&["VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY"])?;
            Ok(named.map(Some))
        })?;
        builder.ambient = Ambient {
            https: self.hidden(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
            http: self.hidden(&["http_proxy", "ALL_PROXY", "all_proxy"])?,
            without: self.text(&["NO_PROXY", "no_proxy"])?.unwrap_or_default(),
        };
        fill(&mut builder.trusted, || self.trusted())?;
        fill(&mut builder.identity, || self.identity())?;
        Ok(builder)
    }

    fn trusted(&self) -> Result<Option<Pem>> {
        if let Some(pem) = self.hidden(&["VAULT_CACERT_BYTES"])? {
            let bytes = pem.expose().as_bytes().to_vec();
            return Ok(Some(Pem::bytes(bytes)));
        }
        Ok(match self.text(&["VAULT_CACERT"])? {
            Some(path) => Some(Pem::File(path.into())),
            None => self
                .text(&["VAULT_CAPATH"])?
                .map(|path| Pem::Folder(path.into())),
        })
    }

    fn identity(&self) -> Result<Option<(Pem, Pem)>> {
        let file = |path: String| Pem::File(PathBuf::from(path));
        match (
            self.text(&["VAULT_CLIENT_CERT"])?,
            self.text(&["VAULT_CLIENT_KEY"])?,
        ) {
            (Some(certificate), Some(key)) => Ok(Some((file(certificate), file(key)))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(about(
                "VAULT_CLIENT_KEY",
                "it is not set, but VAULT_CLIENT_CERT is",
            )),
            (None, Some(_)) => Err(about(
                "VAULT_CLIENT_CERT",
                "it is not set, but VAULT_CLIENT_KEY is",
            )),
        }
    }

    /// The first of these that is set.
    fn hidden(&self, names: &[&'static str]) -> Result<Option<Hidden>> {
        for name in names {
            match self.variables.iter().find(|(known, _)| known == name) {
                None => {}
                Some((_, Variable::Text(text))) => return Ok(Some(text.clone())),
                Some((_, Variable::Unreadable)) => return Err(about(name, "it is not UTF-8")),
            }
        }
        Ok(None)
    }

    fn text(&self, names: &[&'static str]) -> Result<Option<String>> {
        Ok(self.hidden(names)?.map(|text| text.expose().to_owned()))
    }

    /// A yes or no, in the words that Go takes.
    fn switch(&self, name: &'static str) -> Result<Option<bool>> {
        let Some(text) = self.text(&[name])? else {
            return Ok(None);
        };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(about(name, "it is neither true nor false")),
        }
    }
}

fn fill<T>(setting: &mut Option<T>, from: impl FnOnce() -> Result<Option<T>>) -> Result<()> {
    if setting.is_none() {
        *setting = from()?;
    }
    Ok(())
}

fn about(variable: &'static str, detail: &'static str) -> Error {
    misconfigured(detail).with_context("variable", variable)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use kms_core::{ErrorKind, Wrapper as _};

    use super::*;
    use crate::TransitWrapper;

    fn builder(variables: &[(&'static str, &str)]) -> TransitWrapperBuilder {
        let set: HashMap<&str, &str> = variables.iter().copied().collect();
        TransitWrapperBuilder {
            environment: Some(Environment::read(|name| set.get(name).map(OsString::from))),
            ..TransitWrapperBuilder::new()
        }
    }

    const ENOUGH: [(&str, &str); 3] = [
        ("VAULT_ADDR", "http://127.0.0.1:8200"),
        ("VAULT_TOKEN", "hvs.token"),
        ("VAULT_TRANSIT_SEAL_KEY_NAME", "sealing"),
    ];

    fn with(more: &[(&'static str, &str)]) -> Result<TransitWrapper> {
        builder(&[&ENOUGH, more].concat()).build()
    }

    #[test]
    fn the_variables_of_go_are_read_in_go_s_order() {
        let shown = format!("{:?}", with(&[]).unwrap());
        assert!(shown.contains("http://127.0.0.1:8200"), "{shown}");
        assert!(shown.contains("transit/keys/sealing"), "{shown}");
        let wrapper = with(&[
            ("TRANSIT_WRAPPER_KEY_NAME", "app"),
            ("TRANSIT_WRAPPER_MOUNT_PATH", "team/transit/"),
            ("VAULT_TRANSIT_SEAL_MOUNT_PATH", "other"),
        ]);
        let shown = format!("{:?}", wrapper.unwrap());
        assert!(shown.contains("team/transit/keys/app"), "{shown}");
    }

    #[test]
    fn explicit_settings_win_and_empty_variables_are_not_set() {
        let wrapper = builder(
            &[
                &ENOUGH[..],
                &[("VAULT_NAMESPACE", ""), ("VAULT_CACERT", "")],
            ]
            .concat(),
        )
        .address("https://vault.example.com")
        .key_name("app")
        .build()
        .unwrap();
        let shown = format!("{wrapper:?}");
        assert!(shown.contains("vault.example.com"), "{shown}");
        assert!(shown.contains("transit/keys/app"), "{shown}");
        assert_eq!(wrapper.kind(), "transit");
    }

    #[test]
    fn skipping_verification_is_refused_unless_the_code_asks_for_it_too() {
        let https = ("VAULT_ADDR", "https://127.0.0.1:8200");
        let set = [&[https], &ENOUGH[1..]].concat();
        for yes in ["1", "t", "true", "TRUE"] {
            let set = [&set[..], &[("VAULT_SKIP_VERIFY", yes)]].concat();
            let error = builder(&set).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
            assert_eq!(error.context("variable"), Some("VAULT_SKIP_VERIFY"));
            let builder = builder(&set).dangerous().accept_invalid_certificates();
            builder.build().unwrap();
        }
        builder(&[&set[..], &[("VAULT_SKIP_VERIFY", "false")]].concat())
            .build()
            .unwrap();
    }

    #[test]
    fn what_can_not_be_read_or_is_not_supported_is_refused_by_name() {
        for (name, value) in [
            ("VAULT_SKIP_VERIFY", "maybe"),
            ("TRANSIT_WRAPPER_DISABLE_RENEWAL", "yes"),
            ("VAULT_CLIENT_CERT", "/only/one"),
            ("VAULT_CLIENT_KEY", "/only/one"),
            ("VAULT_AGENT_ADDR", "http://127.0.0.1:8100"),
            ("VAULT_PROXY_ADDR", "gopher://127.0.0.1:3128"),
            ("VAULT_HTTP_PROXY", "http://proxy.example.com:3128"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{name}");
            let named = error.context("variable").or(error.context("setting"));
            assert!(named.is_some(), "{name}");
        }
    }

    #[test]
    fn nothing_shows_the_token() {
        let builder = builder(&ENOUGH);
        let shown = format!("{builder:?} {:?}", builder.clone().build());
        assert!(!shown.contains("hvs.token"), "{shown}");
    }
}
