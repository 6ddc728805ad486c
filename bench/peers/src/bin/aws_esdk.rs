//! The AWS Encryption SDK for Rust: a raw AES keyring, the tenant in the encryption context. Once with the algorithm suite
//! that it takes by itself, which commits to the key and signs, and once with the one that commits only.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use aws_esdk::Client;
use aws_esdk::material_providers::client::Client as MaterialProviders;
use aws_esdk::material_providers::types::keyring::KeyringRef;
use aws_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;
use aws_esdk::material_providers::types::{AesWrappingAlg, EsdkAlgorithmSuiteId};
use aws_esdk::types::aws_encryption_sdk_config::AwsEncryptionSdkConfig;
use aws_smithy_types::Blob;
use kms_peers::{AAD, Peer, TENANTS, measure, runtime, tenant};

struct EncryptionSdk {
    client: Client,
    keyring: KeyringRef,
    suite: EsdkAlgorithmSuiteId,
    contexts: Vec<HashMap<String, String>>,
}

struct Plaintext(Blob);

impl std::ops::Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Peer for EncryptionSdk {
    type Plaintext = Plaintext;

    async fn encrypt(&self, tenant: usize, row: &[u8]) -> Result<Vec<u8>> {
        let encrypt = self
            .client
            .encrypt()
            .plaintext(row)
            .keyring(self.keyring.clone());
        let encrypt = encrypt.encryption_context(self.contexts[tenant].clone());
        let encrypted = encrypt.algorithm_suite_id(self.suite.clone()).send().await;
        let encrypted = encrypted.map_err(|error| anyhow!("{error:?}"))?;
        Ok(encrypted.ciphertext.context("no ciphertext")?.into_inner())
    }

    async fn decrypt(&self, tenant: usize, stored: &[u8]) -> Result<Plaintext> {
        let decrypt = self
            .client
            .decrypt()
            .ciphertext(stored)
            .keyring(self.keyring.clone());
        let decrypt = decrypt.encryption_context(self.contexts[tenant].clone());
        let decrypted = decrypt.send().await.map_err(|error| anyhow!("{error:?}"))?;
        Ok(Plaintext(decrypted.plaintext.context("no plaintext")?))
    }
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let context = |number| {
        let row = String::from_utf8_lossy(AAD).into_owned();
        HashMap::from([
            ("tenant".to_owned(), tenant(number)),
            ("row".to_owned(), row),
        ])
    };
    let providers = MaterialProviders::from_conf(MaterialProvidersConfig::builder().build()?)
        .map_err(|error| anyhow!("{error:?}"))?;
    let keyring = providers
        .create_raw_aes_keyring()
        .key_namespace("bench")
        .key_name("bench-root")
        .wrapping_key(vec![7; 32])
        .wrapping_alg(AesWrappingAlg::AlgAes256GcmIv12Tag16);
    let keyring = runtime
        .block_on(keyring.send())
        .map_err(|error| anyhow!("{error:?}"))?;
    let suites = [
        (
            "aws_esdk",
            EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeyEcdsaP384,
        ),
        (
            "aws_esdk_unsigned",
            EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKey,
        ),
    ];
    for (name, suite) in suites {
        let client = Client::from_conf(AwsEncryptionSdkConfig::builder().build()?)
            .map_err(|error| anyhow!("{error:?}"))?;
        let contexts = (0..TENANTS).map(context).collect();
        let keyring = keyring.clone();
        let peer = EncryptionSdk {
            client,
            keyring,
            suite,
            contexts,
        };
        measure(name, &runtime, &peer)?;
    }
    Ok(())
}
