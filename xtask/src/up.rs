//! `cargo xtask up`, `down` and `status`: services that stay.
//!
//! What runs is remembered in `target/xtask/up/`, one file per service, readable by its owner only:
//! the variables hold passwords.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::service::server::{self, Lifetime};
use crate::service::{self, Obtained, Service};
use crate::workspace::Workspace;

/// Starts these services, or all, unless they are running already, and prints what to export. `false`
/// if one is missing.
pub(crate) fn up(workspace: &Workspace, names: &[String]) -> Result<bool> {
    let mut complete = true;
    for service in servers(names)? {
        if let Some(left) = Left::read(workspace, service)? {
            if left.answers(service) {
                eprintln!("{}: runs already, {}", service.name(), left.how);
                print_exports(&left.variables);
                continue;
            }
            left.stop(service)?;
        }
        // Started here whatever the variables say: they may be those of an earlier `up`.
        match service::obtain(service, |_| None, workspace, Lifetime::UntilDown)? {
            Obtained::Running(mut running) => {
                let Some(server) = running.server.take() else {
                    continue;
                };
                if let Some(why) = running.lacks {
                    complete = false;
                    eprintln!(
                        "{}: tests can't start one of their own: {why}",
                        service.name()
                    );
                }
                let variables = running.variables.iter();
                let left = Left {
                    state: state(workspace, service)?,
                    folder: server.folder().to_owned(),
                    how: running.how,
                    variables: variables
                        .map(|(name, value)| ((*name).to_owned(), value.clone()))
                        .collect(),
                };
                left.write()?;
                server.leave();
                print_exports(&left.variables);
            }
            Obtained::Missing(missing) => {
                complete = false;
                let (name, advice) = (service.name(), service.advice());
                eprintln!("MISSING: {name} ({missing}). To have it: {advice}");
            }
        }
    }
    Ok(complete)
}

/// Stops these services, or all, of those that `up` started.
pub(crate) fn down(workspace: &Workspace, names: &[String]) -> Result<bool> {
    for service in servers(names)? {
        let name = service.name();
        match Left::read(workspace, service)? {
            None => println!("{name}: not running"),
            Some(left) if left.stop(service)? => println!("{name}: stopped"),
            Some(_) => println!("{name}: had ended already"),
        }
    }
    Ok(true)
}

/// Says what runs. `false` if a service that `up` started has ended.
pub(crate) fn status(workspace: &Workspace) -> Result<bool> {
    let mut healthy = true;
    for service in servers(&[])? {
        let name = service.name();
        match Left::read(workspace, service)? {
            None => println!("{name}: not running (`cargo xtask up` starts it)"),
            Some(left) if left.answers(service) => println!("{name}: {}", left.how),
            Some(_) => {
                healthy = false;
                println!("{name}: has ended (`cargo xtask up` starts it again)");
            }
        }
    }
    Ok(healthy)
}

/// The servers with these names, in the order of the table; all when there are no names.
fn servers(names: &[String]) -> Result<Vec<&'static dyn Service>> {
    let all = service::ALL.iter().copied();
    let all: Vec<_> = all.filter(|service| service.is_server()).collect();
    for name in names {
        if !all.iter().any(|service| service.name() == name) {
            let known: Vec<_> = all.iter().map(|service| service.name()).collect();
            bail!("no service `{name}`: there are {}", known.join(", "));
        }
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|chosen| chosen == name);
    Ok(all
        .into_iter()
        .filter(|service| chosen(service.name()))
        .collect())
}

/// A service that was left running.
struct Left {
    /// The file that remembers it.
    state: PathBuf,
    folder: PathBuf,
    how: String,
    variables: Vec<(String, String)>,
}

impl Left {
    fn read(workspace: &Workspace, service: &dyn Service) -> Result<Option<Self>> {
        let state = state(workspace, service)?;
        if !state.exists() {
            return Ok(None);
        }
        let left = std::fs::read_to_string(&state)
            .map_err(anyhow::Error::from)
            .and_then(|text| Self::parse(&text, &state));
        left.map(Some).with_context(|| {
            let state = state.display();
            format!("cannot make sense of {state}: remove it, and what it started")
        })
    }

    fn parse(text: &str, state: &Path) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let string = |value: &Value| value.as_str().map(str::to_owned).context("not a string");
        let variables = value["variables"].as_object().context("no variables")?;
        Ok(Self {
            state: state.to_owned(),
            folder: string(&value["folder"])?.into(),
            how: string(&value["how"])?,
            variables: variables
                .iter()
                .map(|(name, value)| Ok((name.clone(), string(value)?)))
                .collect::<Result<_>>()?,
        })
    }

    fn write(&self) -> Result<()> {
        let variables: serde_json::Map<String, Value> = self
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let value = json!({ "folder": self.folder, "how": self.how, "variables": variables });
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.state)
            .with_context(|| format!("cannot write {}", self.state.display()))?;
        writeln!(file, "{value:#}")?;
        Ok(())
    }

    fn answers(&self, service: &dyn Service) -> bool {
        let first = service.variables()[0];
        let value = self.variables.iter().find(|(name, _)| name == first);
        // What has no address is there as long as its folder.
        let answers = |value: &str| match service.address(value) {
            Some(address) => service::listens(&address),
            None => true,
        };
        self.folder.exists() && value.is_some_and(|(_, value)| answers(value))
    }

    /// Stops it and forgets it. `false` if it had ended already.
    fn stop(&self, service: &dyn Service) -> Result<bool> {
        let stopped = server::stop(&self.folder)?;
        if !stopped && self.folder.exists() {
            // Its keeper was killed, which may have left the server alive.
            let folder = self.folder.display();
            ensure!(
                !self.answers(service),
                "{} still runs, but nothing can stop it from here: find it with \
                 `ps ax | grep {folder}` and end it, then try again",
                service.name()
            );
            std::fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {folder}"))?;
        }
        std::fs::remove_file(&self.state)?;
        Ok(stopped)
    }
}

fn state(workspace: &Workspace, service: &dyn Service) -> Result<PathBuf> {
    let name = service.name();
    Ok(workspace.kept("up")?.join(format!("{name}.json")))
}

fn print_exports(variables: &[(String, String)]) {
    for (name, value) in variables {
        println!("export {name}={}", quoted(value));
    }
}

/// The value as one word of a shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{Left, quoted, servers};

    #[test]
    fn servers_are_chosen_by_name_and_programs_are_none() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let servers = servers(&names)?;
            Ok::<_, anyhow::Error>(
                servers
                    .iter()
                    .map(|server| server.name())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            names(&[]).unwrap(),
            ["postgres", "aws", "gcp", "vault", "softhsm"]
        );
        assert_eq!(names(&["vault", "aws"]).unwrap(), ["aws", "vault"]);
        assert!(names(&["gcp-client"]).is_err());
        assert!(
            names(&["oracle"])
                .unwrap_err()
                .to_string()
                .contains("postgres")
        );
    }

    #[test]
    fn what_is_remembered_reads_back_and_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("postgres.json");
        let left = Left {
            state: state.clone(),
            folder: "/tmp/kms".into(),
            how: "binaries".to_owned(),
            variables: vec![("URL".to_owned(), "postgres://u:p@h".to_owned())],
        };
        left.write().unwrap();
        let read = Left::parse(&std::fs::read_to_string(&state).unwrap(), &state).unwrap();
        assert_eq!(read.folder, left.folder);
        assert_eq!(read.variables, left.variables);
        let mode = state.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn a_value_stays_one_word_for_the_shell() {
        assert_eq!(quoted("a b$c"), "'a b$c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
