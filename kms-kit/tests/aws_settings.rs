//! A wrapper of AWS KMS obeys the same settings, whether it is made by a builder, by the environment or by a URL.
//!
//! Each case runs this program again in children, one for each way, with the case's variables. What they send goes to
//! an endpoint that records it, which is also their proxy.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use kms_kit::{RootWrapper, Wrapper};

const WAY: &str = "KMS_TEST_AWS_WAY";
const KEY: &str = "alias/app";

/// Writes down the first line and the telling headers of each request, and refuses it.
struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        // Ends with the process: it waits for connections until then.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let entry = record(stream).unwrap_or_else(|error| error.to_string());
                kept.lock().unwrap().push(entry);
            }
        });
        Self { address, seen }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn record(mut stream: TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            break;
        }
        head.push(byte[0]);
        if head == [0x16] {
            return Ok("TLS".to_owned());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let is_get = head.starts_with("GET");
    let telling = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("x-amz-target")
            || line.starts_with("x-amz-security-token")
            || is_get && line.starts_with("authorization")
    };
    let mut entry: Vec<_> = head.lines().take(1).collect();
    entry.extend(head.lines().filter(telling));
    for (start, end) in [("Credential=", '/'), ("app/", ' ')] {
        if let Some((_, rest)) = head.split_once(start) {
            let value = rest.split([end, '\r', '\n']).next().unwrap_or_default();
            entry.push(&head[head.len() - rest.len() - start.len()..][..start.len() + value.len()]);
        }
    }
    let status = match is_get || head.starts_with("PUT") {
        true => "404 Not Found",
        false => "503 Service Unavailable",
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    Ok(entry.join(" "))
}

/// Variables with their values, in which `{recorder}` is the recorder's address and `{folder}` that of the files.
struct Case {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// What the requests say then.
    shows: &'static str,
    /// Whether that is about credentials, so that a builder which was given some says something else.
    of_credentials: bool,
}

const fn case(
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    shows: &'static str,
) -> Case {
    Case {
        name,
        variables,
        shows,
        of_credentials: false,
    }
}

impl Case {
    const fn of_credentials(mut self) -> Self {
        self.of_credentials = true;
        self
    }
}

/// An empty value takes a variable away.
const BASE: &[(&str, &str)] = &[
    ("AWSKMS_WRAPPER_KEY_ID", KEY),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "{folder}/none"),
    ("AWS_SHARED_CREDENTIALS_FILE", "{folder}/none"),
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_MAX_ATTEMPTS", "1"),
    ("HTTPS_PROXY", "http://{recorder}"),
];

const WAYS: [&str; 5] = [
    "builder",
    "environment",
    "url",
    "builder with keys",
    "environment with keys",
];

const CASES: &[Case] = &[
    case(
        "HTTPS_PROXY",
        &[],
        "CONNECT kms.eu-central-1.amazonaws.com:443",
    ),
    case(
        "AWS_REGION",
        &[("AWS_REGION", "eu-west-1")],
        "CONNECT kms.eu-west-1.",
    ),
    case(
        "AWS_DEFAULT_REGION",
        &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-west-2")],
        "CONNECT kms.eu-west-2.",
    ),
    case(
        "AWS_ENDPOINT_URL_KMS",
        &[
            ("AWS_ENDPOINT_URL_KMS", "http://{recorder}"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ],
        "POST / HTTP/1.1",
    ),
    case(
        "AWS_ENDPOINT_URL",
        &[("AWS_ENDPOINT_URL", "http://{recorder}")],
        "POST / HTTP/1.1",
    ),
    case(
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        &[
            ("AWS_ENDPOINT_URL_KMS", "http://{recorder}"),
            ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ],
        "CONNECT kms.eu-central-1.amazonaws.com:443",
    ),
    case(
        "AWS_USE_FIPS_ENDPOINT",
        &[
            ("AWS_REGION", "us-east-1"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
        ],
        "CONNECT kms-fips.us-east-1.",
    ),
    case(
        "AWS_USE_DUALSTACK_ENDPOINT",
        &[("AWS_USE_DUALSTACK_ENDPOINT", "true")],
        "CONNECT kms.eu-central-1.api.aws:443",
    ),
    case(
        "AWS_PROFILE and AWS_CONFIG_FILE",
        &[
            ("AWS_REGION", ""),
            ("AWS_CONFIG_FILE", "{folder}/config"),
            ("AWS_PROFILE", "app"),
        ],
        "CONNECT kms.eu-south-1.",
    ),
    case(
        "an endpoint of a profile",
        &[
            ("AWS_CONFIG_FILE", "{folder}/config"),
            ("AWS_PROFILE", "endpoint"),
        ],
        "POST / HTTP/1.1",
    ),
    case(
        "AWS_SHARED_CREDENTIALS_FILE",
        &[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SHARED_CREDENTIALS_FILE", "{folder}/credentials"),
            ("AWS_ENDPOINT_URL_KMS", "http://{recorder}"),
        ],
        "Credential=AKIDFILE",
    )
    .of_credentials(),
    case(
        "AWS_ACCESS_KEY_ID",
        &[("AWS_ENDPOINT_URL_KMS", "http://{recorder}")],
        "Credential=AKIDENVIRONMENT",
    )
    .of_credentials(),
    case(
        "AWS_SESSION_TOKEN",
        &[
            ("AWS_ENDPOINT_URL_KMS", "http://{recorder}"),
            ("AWS_SESSION_TOKEN", "a-token"),
        ],
        "x-amz-security-token: a-token",
    )
    .of_credentials(),
    case(
        "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ENDPOINT_URL_STS",
        &[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "{folder}/token"),
            ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app"),
            ("AWS_ROLE_SESSION_NAME", "app"),
            ("AWS_ENDPOINT_URL_STS", "http://{recorder}"),
        ],
        "POST / HTTP/1.1",
    )
    .of_credentials(),
    case(
        "HTTPS_PROXY for credentials",
        &[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "{folder}/token"),
            ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app"),
        ],
        "CONNECT sts.eu-central-1.amazonaws.com:443",
    )
    .of_credentials(),
    case(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        &[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "http://{recorder}/credentials",
            ),
        ],
        "GET /credentials",
    )
    .of_credentials(),
    case(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        &[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "http://{recorder}/credentials",
            ),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic a-container"),
        ],
        "authorization: Basic a-container",
    )
    .of_credentials(),
    case(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        &[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_EC2_METADATA_DISABLED", ""),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://{recorder}"),
        ],
        "PUT /latest/api/token",
    )
    .of_credentials(),
    case(
        "AWS_RETRY_MODE",
        &[("AWS_RETRY_MODE", "adaptive")],
        "CONNECT kms.eu-central-1.amazonaws.com:443",
    ),
    case(
        "AWS_RETRY_MODE that there is not",
        &[("AWS_RETRY_MODE", "never")],
        "CONNECT kms.eu-central-1.amazonaws.com:443",
    ),
    case(
        "AWS_SDK_UA_APP_ID",
        &[
            ("AWS_SDK_UA_APP_ID", "shop"),
            ("AWS_ENDPOINT_URL_KMS", "http://{recorder}"),
        ],
        "app/shop",
    ),
    case(
        "NO_PROXY",
        &[
            ("NO_PROXY", "example.com,127.0.0.1"),
            ("AWS_ENDPOINT_URL_KMS", "https://{recorder}"),
        ],
        "TLS",
    ),
    case(
        "AWS_CA_BUNDLE",
        &[("AWS_CA_BUNDLE", "{folder}/none")],
        "InvalidConfiguration AWS_CA_BUNDLE",
    ),
    case(
        "SSL_CERT_FILE",
        &[("SSL_CERT_FILE", "{folder}/none")],
        "InvalidConfiguration SSL_CERT_FILE",
    ),
    case(
        "a host that is not loopback over plain http",
        &[("AWS_ENDPOINT_URL_KMS", "http://kms.example.com")],
        "InvalidConfiguration endpoint",
    ),
];

#[test]
fn every_variable_counts_alike_for_a_builder_the_environment_and_a_url() {
    if env::var_os(WAY).is_some() {
        return child();
    }
    let recorder = Recorder::start();
    let folder = tempfile::tempdir().unwrap();
    let address = recorder.address.to_string();
    let filled = |text: &str| {
        let text = text.replace("{recorder}", &address);
        text.replace("{folder}", folder.path().to_str().unwrap())
    };
    let config = "[profile app]\nregion = eu-south-1\n[profile endpoint]\nservices = here\n\
        [services here]\nkms =\n  endpoint_url = http://{recorder}\n\
        [profile patient]\nmax_attempts = 2\n";
    let credentials = "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n\
        [named]\naws_access_key_id = AKIDNAMED\naws_secret_access_key = secret\n";
    for (name, text) in [
        ("config", config),
        ("credentials", credentials),
        ("token", "t"),
    ] {
        std::fs::write(folder.path().join(name), filled(text)).unwrap();
    }
    for case in CASES {
        let of = |way: &str| {
            let variables = BASE.iter().chain(case.variables);
            let said = run(way, variables.map(|(name, value)| (*name, filled(value))));
            let mut seen = recorder.take();
            seen.dedup();
            seen.push(said);
            seen
        };
        let shows = |seen: &[String]| seen.iter().any(|entry| entry.contains(case.shows));
        let all = ["builder", "environment", "url"].map(of);
        for seen in &all {
            assert_eq!(*seen, all[0], "{}", case.name);
            assert!(shows(seen), "{}: {seen:?}", case.name);
        }
        // Credentials on top change nothing but who it is.
        let given = ["builder with keys", "environment with keys"].map(of);
        assert_eq!(given[0], given[1], "{}", case.name);
        assert_eq!(
            shows(&given[0]),
            !case.of_credentials,
            "{}: {given:?}",
            case.name
        );
        let who = |entry: &String| !entry.contains("Credential=") || entry.contains("=AKIDGIVEN");
        assert!(given[0].iter().all(who), "{}: {given:?}", case.name);
    }
    // Attempts are counted.
    let attempts: [(&str, &[(&str, &str)], usize); 4] = [
        ("AWS_MAX_ATTEMPTS", &[("AWS_MAX_ATTEMPTS", "3")], 3),
        (
            "max_attempts of a profile",
            &[
                ("AWS_MAX_ATTEMPTS", ""),
                ("AWS_CONFIG_FILE", "{folder}/config"),
                ("AWS_PROFILE", "patient"),
            ],
            2,
        ),
        (
            "AWS_MAX_ATTEMPTS and a profile",
            &[
                ("AWS_MAX_ATTEMPTS", "1"),
                ("AWS_CONFIG_FILE", "{folder}/config"),
                ("AWS_PROFILE", "patient"),
            ],
            1,
        ),
        (
            "AWS_RETRY_MODE",
            &[("AWS_MAX_ATTEMPTS", "3"), ("AWS_RETRY_MODE", "adaptive")],
            3,
        ),
    ];
    for (name, variables, expected) in attempts {
        for way in WAYS {
            let more = [("AWS_ENDPOINT_URL_KMS", "http://{recorder}")];
            let variables = BASE.iter().chain(&more).chain(variables);
            run(way, variables.map(|(name, value)| (*name, filled(value))));
            assert_eq!(recorder.take().len(), expected, "{name}, {way}");
        }
    }
    // It names a path on an address that only containers have, and wins over the whole URI.
    for way in ["builder", "environment", "url"] {
        let more = [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/relative"),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "http://{recorder}/full",
            ),
        ];
        let variables = BASE.iter().chain(&more);
        run(way, variables.map(|(name, value)| (*name, filled(value))));
        let seen = recorder.take();
        assert_eq!(
            seen, [""; 0],
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, {way}"
        );
    }
    // `no_proxy` wins over the environment.
    for way in ["builder with no proxy", "environment with no proxy"] {
        let more = [("AWS_ENDPOINT_URL_KMS", "https://{recorder}")];
        let variables = BASE.iter().chain(&more);
        run(way, variables.map(|(name, value)| (*name, filled(value))));
        assert_eq!(recorder.take(), ["TLS"], "{way}");
    }
    // The profile that the builder names has the credentials, and no other.
    for way in ["builder with profile", "environment with profile"] {
        let more = [
            ("AWS_SHARED_CREDENTIALS_FILE", "{folder}/credentials"),
            ("AWS_ENDPOINT_URL_KMS", "http://{recorder}"),
        ];
        let variables = BASE.iter().chain(&more);
        run(way, variables.map(|(name, value)| (*name, filled(value))));
        let seen = recorder.take();
        assert!(seen[0].contains("Credential=AKIDNAMED"), "{way}: {seen:?}");
    }
}

/// Runs a child that asks once; returns the kind of its error, and the setting in it.
fn run(way: &str, variables: impl Iterator<Item = (&'static str, String)>) -> String {
    let mut child = Command::new(env::current_exe().unwrap());
    let test = "every_variable_counts_alike_for_a_builder_the_environment_and_a_url";
    child.args(["--exact", test, "--nocapture"]);
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if upper.starts_with("AWS") || upper.starts_with("SSL_") || upper.ends_with("_PROXY") {
            child.env_remove(name);
        }
    }
    for (name, value) in variables {
        if value.is_empty() {
            child.env_remove(name);
        } else {
            child.env(name, value);
        }
    }
    let output = child.env(WAY, way).stderr(Stdio::inherit()).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let (_, outcome) = said.split_once("OUTCOME ").unwrap();
    outcome.lines().next().unwrap().to_owned()
}

#[expect(clippy::print_stdout, reason = "its parent reads it")]
fn child() {
    let way = env::var(WAY).unwrap();
    let root: kms_kit::Result<Box<dyn Wrapper>> = if way == "url" {
        RootWrapper::from_url(&format!("awskms:///{KEY}")).map(boxed)
    } else {
        let builder = match way.starts_with("builder") {
            true => kms_kit::aws::builder(KEY),
            false => kms_kit::aws::from_env(),
        };
        let builder = match way.split_once(" with ") {
            Some((_, "keys")) => builder.credentials("AKIDGIVEN", "secret"),
            Some((_, "profile")) => builder.profile("named"),
            Some((_, "no proxy")) => builder.no_proxy(),
            _ => builder,
        };
        builder.build().map(boxed)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = root.and_then(|root| runtime.unwrap().block_on(root.encrypt(b"key", b"aad")));
    let error = outcome.unwrap_err();
    let setting = error.context("setting").unwrap_or_default();
    println!("OUTCOME {} {setting}", error.kind().name());
}

fn boxed(wrapper: impl Wrapper + 'static) -> Box<dyn Wrapper> {
    Box::new(wrapper)
}
