//! Addresses: whatever psql connects with is taken, as it is.

use std::process::Command;

use diesel::connection::SimpleConnection as _;
use kms_core::{ErrorKind, Repository as _};
use kms_store_diesel::PostgresRepository;

use super::on_postgres;

/// A role of one test whose password has all that means something in an address.
struct Role<'a> {
    server: &'a str,
    name: String,
}

const PASSWORD: &str = r"a://b?c=d&e'f\g %/#[h";

/// The same in a URI, for what a URI has to escape: `?`, `=`, `&` and `'` it has not.
const IN_A_URI: &str = r"a:%2F%2Fb?c=d&e'f\g %25%2F#[h";

impl<'a> Role<'a> {
    fn new(server: &'a str) -> Self {
        let name = format!("kms_address_{}", std::process::id());
        let role = Self { server, name };
        let quoted = PASSWORD.replace('\'', "''");
        role.execute(&format!(
            "create role {} login superuser password '{quoted}'",
            role.name
        ));
        role
    }

    fn execute(&self, sql: &str) {
        use diesel::connection::Connection as _;
        diesel::PgConnection::establish(self.server)
            .unwrap()
            .batch_execute(sql)
            .unwrap();
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        self.execute(&format!("drop role {}", self.name));
    }
}

#[test]
fn every_address_that_psql_takes_is_taken_and_reaches_the_same_database() {
    on_postgres(async |application| {
        let url = application.database.url();
        let role = Role::new(&url);
        let (_, rest) = url.split_once("://").unwrap();
        let (authority, database) = rest.split_once('/').unwrap();
        let server = authority.rsplit('@').next().unwrap();
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "5432"));
        let database = database.split('?').next().unwrap();
        let name = &role.name;
        let keywords = format!("host={host} port={port} dbname={database} user={name}");
        let quoted = PASSWORD.replace('\\', r"\\").replace('\'', r"\'");
        let unquoted = quoted.replace(' ', r"\ ");
        let addresses = [
            format!("postgres://{name}:{IN_A_URI}@{server}/{database}"),
            format!("postgresql://{name}:{IN_A_URI}@{server}/{database}"),
            format!("postgres://{name}:{IN_A_URI}@{server}/{database}?"),
            format!("postgres://{name}:{IN_A_URI}@{server}/{database}?connect_timeout=7"),
            format!("postgres://{name}:{IN_A_URI}@{server}/{database}?connect_timeout=7&"),
            format!("postgres://{name}:{IN_A_URI}@/{database}?host={host}&port={port}"),
            format!(
                "postgres://{name}:{IN_A_URI}@{server},{server}/{database}?target_session_attrs=any"
            ),
            format!(
                "postgres://{server}/{database}?user={name}&password=a%3A//b?c%3Dd%26e'f\\g %25/%23[h"
            ),
            format!("{keywords} password='{quoted}'"),
            format!("password='{quoted}' {keywords}"),
            format!("password={unquoted} {keywords}"),
            format!("{keywords} password={unquoted}"),
            format!("\n {keywords}\tpassword = '{quoted}'  connect_timeout = 7 "),
        ];
        for address in addresses {
            let psql = Command::new("psql")
                .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command"])
                .args(["select current_database(), current_user", &address])
                .output();
            if let Ok(output) = psql {
                let said = String::from_utf8_lossy(&output.stdout);
                let failed = String::from_utf8_lossy(&output.stderr);
                assert_eq!(
                    said.trim(),
                    format!("{database}|{name}"),
                    "{address}: {failed}"
                );
            }
            let repository = PostgresRepository::builder(&address).build().unwrap();
            let version = repository.validate_schema().await;
            version.unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    });
}

#[test]
fn what_libpq_does_not_take_is_refused_before_anything_is_tried_and_not_repeated() {
    for address in [
        "postgres://u:hunter2@h/d?no_such_setting=hunter2",
        "postgres://u:hunter2%zz@h/d",
        "postgres://u:hunter2@[::1/d",
        "host=h password='hunter2",
        "host=h hunter2",
        "mysql://u:hunter2@h/d?x=y",
        "  ",
    ] {
        let error = PostgresRepository::builder(address).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{address:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
