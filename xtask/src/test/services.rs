//! What was found of the services that suites need.

use anyhow::{Context, Result};

use crate::service::server::Lifetime;
use crate::service::{self, Missing, Obtained, Running, Service};
use crate::suite::Suite;
use crate::workspace::Workspace;

/// The services of all suites that run.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) running: Vec<(&'static dyn Service, Running)>,
    pub(crate) missing: Vec<(&'static dyn Service, Missing)>,
}

/// Those of one suite.
pub(crate) struct Needed<'a> {
    pub(crate) running: Vec<&'a (&'static dyn Service, Running)>,
    pub(crate) missing: Vec<&'a (&'static dyn Service, Missing)>,
}

impl Services {
    /// Gets what these suites need.
    pub(crate) fn obtain(workspace: &Workspace, suites: &[&Suite]) -> Result<Self> {
        let mut services = Self::default();
        for &service in service::ALL {
            if !suites.iter().any(|suite| needs(suite, service)) {
                continue;
            }
            let variable = |name: &str| std::env::var(name).ok();
            match service::obtain(service, variable, workspace, Lifetime::OfThisProgram)? {
                Obtained::Running(running) => services.running.push((service, running)),
                Obtained::Missing(missing) => {
                    eprintln!("MISSING: {} ({missing})", service.name());
                    services.missing.push((service, missing));
                }
            }
        }
        Ok(services)
    }

    /// Those that this suite needs.
    pub(crate) fn needed(&self, suite: &Suite) -> Needed<'_> {
        let running = self.running.iter();
        let missing = self.missing.iter();
        Needed {
            running: running.filter(|found| needs(suite, found.0)).collect(),
            missing: missing.filter(|found| needs(suite, found.0)).collect(),
        }
    }
}

impl Needed<'_> {
    /// What tells tests where the services are.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let running = self.running.iter();
        let variables = running.flat_map(|(_, running)| &running.variables);
        variables.map(|(name, value)| (*name, value.as_str()))
    }

    /// The value of one of these variables.
    pub(crate) fn value_of(&self, variable: &str) -> Result<&str> {
        let found = self.variables().find(|(name, _)| *name == variable);
        let (_, value) = found.with_context(|| format!("no service gives {variable}"))?;
        Ok(value)
    }
}

fn needs(suite: &Suite, service: &dyn Service) -> bool {
    let mut needs = suite.needs.iter();
    needs.any(|need| need.name() == service.name())
}
