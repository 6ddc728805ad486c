//! Engines that read from a replica: what they see, and when.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the store's test of a failover needs the rest")]
#[path = "replica/servers.rs"]
mod servers;

mod postgres {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::time::Duration;

    use kms_bench::world::{PURPOSES, builder, local_root, scope};
    use kms_kit::{ErrorKind, Freshness, Kms, PostgresRepository, Rewrap, Wrapper};
    use kms_testkit::ManualClock;

    use crate::servers::{Server, Servers};

    const WINDOW: Duration = Duration::from_secs(1);

    /// None where the server's programs are not to be had.
    fn servers() -> Option<Servers> {
        let servers = Servers::start();
        if servers.is_none() {
            // Past the capture of the test's output.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: a replica (no initdb and pg_basebackup on this machine)"
            );
        }
        if let Some(servers) = &servers {
            kms_kit::migrations::postgres::run(&mut servers.primary.connection()).unwrap();
            servers.catch_up();
        }
        servers
    }

    async fn engine(server: &Server, root: &Arc<dyn Wrapper>, clock: &Arc<ManualClock>) -> Kms {
        let repository = PostgresRepository::builder(server.url()).build().unwrap();
        builder(Arc::new(repository), root)
            .freshness(Freshness::Within(WINDOW))
            .clock(Arc::clone(clock) as _)
            .build()
            .await
            .unwrap()
    }

    /// An engine on the primary with keys of one scope, which the replica has as well, and one on the replica.
    struct Pair {
        servers: Servers,
        clock: Arc<ManualClock>,
        writer: Kms,
        reader: Kms,
    }

    impl Pair {
        async fn new() -> Option<Self> {
            let servers = servers()?;
            let (root, clock) = (local_root("root").unwrap(), Arc::new(ManualClock::new()));
            let writer = engine(&servers.primary, &root, &clock).await;
            writer.create_keys(&scope(1), &PURPOSES).await.unwrap();
            servers.catch_up();
            let reader = engine(&servers.replica, &root, &clock).await;
            Some(Self {
                servers,
                clock,
                writer,
                reader,
            })
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_seen_on_a_replica_within_the_window_after_it_has_arrived_there() {
        let Some(Pair {
            servers,
            clock,
            writer,
            reader,
        }) = Pair::new().await
        else {
            return;
        };
        let newest = async |kms: &Kms| {
            let wrapper = kms.wrapper(&scope(1), &PURPOSES[0]).await.unwrap();
            wrapper.key_version_id().clone()
        };
        let first = newest(&reader).await;

        servers.hold();
        writer.rotate_keys(&scope(1), Rewrap::Yes).await.unwrap();
        let second = newest(&writer).await;
        assert_ne!(first, second);
        // However long: the replica does not know.
        clock.advance(WINDOW * 100);
        assert_eq!(newest(&reader).await, first);
        // Nor does a row's new key version open before it is there.
        let wrapper = writer.wrapper(&scope(1), &PURPOSES[0]).await.unwrap();
        let blob = wrapper.encrypt(b"secret", b"").unwrap();
        let decrypted = reader.decrypt(&scope(1), &PURPOSES[0], &blob, b"").await;
        assert_eq!(decrypted.unwrap_err().kind(), ErrorKind::UnknownKeyVersion);

        servers.catch_up();
        clock.advance(WINDOW * 2);
        assert_eq!(newest(&reader).await, second);
        let decrypted = reader.decrypt(&scope(1), &PURPOSES[0], &blob, b"").await;
        assert_eq!(decrypted.unwrap().expose(), b"secret");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_on_a_replica_is_refused_and_reading_goes_on() {
        let Some(Pair {
            servers: _servers,
            reader,
            ..
        }) = Pair::new().await
        else {
            return;
        };
        for refused in [
            reader.create_keys(&scope(2), &PURPOSES).await,
            reader.rotate_keys(&scope(1), Rewrap::Yes).await,
            reader.delete_keys(&scope(1)).await,
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseReadOnly, "{error}");
        }
        reader.wrapper(&scope(1), &PURPOSES[0]).await.unwrap();
        assert_eq!(reader.census().await.unwrap().scopes, 1);
    }
}
