//! What the wrapper and everything under it log, at the finest level, through `tracing` and through `log`.
//!
//! In a process of its own, since both are global.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vault {
    use std::io;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use kms_core::{ErrorKind, Wrapper as _};
    use kms_testkit::service::Vault;
    use kms_testkit::wrapper::assert_hidden;
    use kms_wrapper_vault::{Auth, TransitWrapper};
    use serde_json::json;
    use tracing_subscriber::fmt::format::FmtSpan;

    static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    fn logged() -> MutexGuard<'static, Vec<u8>> {
        LOGGED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    struct Log;

    impl log::Log for Log {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}\n", record.target(), record.args());
            logged().extend_from_slice(line.as_bytes());
        }

        fn flush(&self) {}
    }

    struct Tracing;

    impl io::Write for Tracing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            logged().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PLAINTEXT: &[u8] = b"a plaintext that would be recognised";

    /// Everything that has to do with secrets, going well and going wrong. Gives the secrets.
    async fn use_it(vault: &Vault) -> Vec<String> {
        let mount = vault.transit().await;
        vault.create_key(&mount, "app").await;
        let policy = vault
            .policy(&format!(
                "path \"{mount}/*\" {{ capabilities = [\"update\"] }}"
            ))
            .await;
        let login = format!("approle-{}", Vault::unique());
        vault
            .write(&format!("sys/auth/{login}"), json!({ "type": "approle" }))
            .await;
        let role = format!("auth/{login}/role/app");
        vault
            .write(
                &role,
                json!({ "token_policies": [policy.as_str()], "token_num_uses": 4 }),
            )
            .await;
        let role_id = vault.read(&format!("{role}/role-id")).await;
        let role_id = role_id["data"]["role_id"].as_str().unwrap().to_owned();
        let made = vault.write(&format!("{role}/secret-id"), json!({})).await;
        let secret_id = made["data"]["secret_id"].as_str().unwrap().to_owned();
        let token = vault
            .create_token(json!({ "policies": [policy], "ttl": "60s" }))
            .await;

        for auth in [
            Auth::app_role(role_id.as_str(), secret_id.as_str()).mount(&login),
            Auth::token(&token),
            Auth::token("a-token-that-nobody-knows"),
        ] {
            let wrapper = TransitWrapper::builder()
                .address(vault.url())
                .mount_path(&mount)
                .key_name("app")
                .auth(auth)
                .build()
                .unwrap();
            for _ in 0..4 {
                let Ok(blob) = wrapper.encrypt(PLAINTEXT, b"aad").await else {
                    continue;
                };
                wrapper.decrypt(&blob, b"aad").await.unwrap();
                let error = wrapper.decrypt(&blob, b"other").await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
            }
            let _ = wrapper.preflight().await;
        }
        vec![secret_id, token, "a-token-that-nobody-knows".to_owned()]
    }

    fn assert_clean(secrets: &[String], witness: &str) {
        let text = String::from_utf8_lossy(&std::mem::take(&mut *logged())).into_owned();
        assert!(text.contains(witness), "nothing of {witness} was captured");
        assert_hidden(PLAINTEXT, &text);
        for secret in secrets {
            assert_hidden(secret.as_bytes(), &text);
        }
        // The tokens that logins gave begin so.
        assert!(
            !text.contains("hvs.") && !text.contains("hvb."),
            "a token shows"
        );
        assert!(!text.contains("vault:v1:"), "a ciphertext shows");
    }

    #[tokio::test]
    async fn nothing_secret_is_logged_at_any_level() {
        let Some(vault) = Vault::shared() else { return };
        // As long as `tracing` has no subscriber, the dependencies' events go to `log`.
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let secrets = use_it(&vault).await;
        assert_clean(&secrets, "rustify");

        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(|| Tracing)
            .init();
        let secrets = use_it(&vault).await;
        assert_clean(&secrets, "build_body");
    }
}
