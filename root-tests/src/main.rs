//! An engine on Postgres, whose root wrapper comes from the environment, that does what the lines of its
//! standard input say and answers each by a line: `ok …` or `error KIND message`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it speaks to its parent by lines, and fails it by panicking"
)]

use std::sync::Arc;

use data_encoding::HEXLOWER;
use kms_kit::prelude::*;
use kms_kit::{CampaignOptions, KeyVersionId, PostgresRepository, Result, RootWrapper};

const DATABASE: Purpose = Purpose::from_static("database");
const OIDC: Purpose = Purpose::from_static("oidc");

#[tokio::main(worker_threads = 2)]
async fn main() {
    let url = std::env::args().nth(1).expect("the URL of a database");
    let repository = PostgresRepository::builder(url).pool_size(2).build();
    let root = RootWrapper::from_env().unwrap();
    let mut builder = kms_kit::builder(Arc::new(repository.unwrap()))
        .root_wrapper(Arc::new(root.clone()))
        .purposes([DATABASE, OIDC])
        // What another process changed is seen at once.
        .freshness(Freshness::Always);
    if std::env::args().nth(2).as_deref() == Some("root-may-be-new") {
        builder = builder.root_may_be_new();
    }
    let kms = builder.build().await.unwrap();
    // They end with the parent. The lock on them is not kept: an order may read further lines.
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        let line = std::mem::take(&mut line);
        let words: Vec<_> = line.split_whitespace().collect();
        match obey(&kms, &root, &words).await {
            Ok(said) => println!("ok {said}"),
            Err(error) => println!("error {:?} {error}", error.kind()),
        }
    }
}

async fn obey(kms: &Kms, root: &RootWrapper, words: &[&str]) -> Result<String> {
    let scope = |id: &str| ScopeId::new(id).unwrap();
    match *words {
        ["preflight"] => root.preflight().await?,
        ["create", id] => {
            kms.create_keys(&scope(id), &[DATABASE, OIDC]).await?;
        }
        ["encrypt", id, text] => {
            let wrapper = kms.wrapper(&scope(id), &OIDC).await?;
            let blob = wrapper.encrypt(text.as_bytes(), id.as_bytes())?;
            return Ok(HEXLOWER.encode(&blob.encode()));
        }
        ["decrypt", id, blob] => {
            let blob = Blob::decode(&HEXLOWER.decode(blob.as_bytes()).unwrap())?;
            let text = kms.decrypt(&scope(id), &OIDC, &blob, id.as_bytes()).await?;
            return Ok(String::from_utf8(text.expose().to_vec()).unwrap());
        }
        ["rotate", id] => {
            kms.rotate_keys(&scope(id), Rewrap::No).await?;
        }
        ["rotate+rewrap", id] => {
            kms.rotate_keys(&scope(id), Rewrap::Yes).await?;
        }
        ["rewrap", id] => {
            kms.rewrap_keys(&scope(id), RewrapKeys::All).await?;
        }
        ["versions", id] => {
            let keys = kms.list_keys(&scope(id)).await?;
            let ids = keys.iter().flat_map(|key| &key.versions);
            let ids: Vec<_> = ids.map(|version| version.id.to_string()).collect();
            return Ok(ids.join(" "));
        }
        ["revoke", id] => {
            kms.revoke_key_version(&id.parse::<KeyVersionId>()?).await?;
        }
        // Waits for a line after each batch.
        ["rewrap_all", campaign] => {
            let options = CampaignOptions::new(campaign)
                .batch_size(2)
                // Its process is killed, and another one goes on.
                .lease(std::time::Duration::from_millis(500));
            let outcome = kms
                .rewrap_all(&options, RewrapKeys::All, |progress| {
                    println!("done {}", progress.done);
                    let mut go_on = String::new();
                    std::io::stdin().read_line(&mut go_on).unwrap();
                })
                .await?;
            let outcome = outcome.report().expect("it was just started");
            assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            return Ok(format!("finished {}", outcome.done));
        }
        ["census"] => {
            let census = kms.census().await?;
            assert_eq!(census.unreadable, 0);
            let roots = census.by_root_key.iter();
            let roots: Vec<_> = roots.map(|(id, count)| format!("{id}={count}")).collect();
            return Ok(roots.join(" "));
        }
        _ => panic!("what is {words:?}?"),
    }
    Ok("done".to_owned())
}
