//! A server that answers as Google Cloud KMS does, for tests. Its first line of output is its base URL.

use std::net::SocketAddr;
use std::process::ExitCode;

use kms_testkit::fake_cloud_kms::FakeCloudKms;

const USAGE: &str = "usage: fake-cloud-kms [--listen 127.0.0.1:PORT]

Runs until it is killed. Without --listen, or with port 0, it takes a free port.";

#[expect(clippy::print_stdout, reason = "the URL is what it prints")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listen = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "127.0.0.1:0",
        ["--listen", address] => address,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Some(address) = listen
        .parse::<SocketAddr>()
        .ok()
        .filter(|address| address.ip().is_loopback())
    else {
        eprintln!("{listen}: not a loopback address and a port\n\n{USAGE}");
        return ExitCode::from(2);
    };
    let fake = FakeCloudKms::start_at(address).await;
    println!("{}", fake.url());
    std::future::pending().await
}
