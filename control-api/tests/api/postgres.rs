//! The embedded Postgres: made once, shared, stopped by the last, found again.

use control_api::postgres::{Cluster, Durability};
use sqlx::{Connection as _, PgConnection};

async fn answers(cluster: &Cluster) -> bool {
    match PgConnection::connect_with(&cluster.options()).await {
        Ok(mut connection) => connection.ping().await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_cluster_survives_restarts_and_ends_with_its_last_user() {
    let folder = std::env::temp_dir().join(format!("headwater-cluster-{}", std::process::id()));
    let start = || Cluster::start(&folder, "postgres", Durability::Full).expect("a cluster");
    let first = start();
    first.make_database().await.expect("a database");
    first.make_database().await.expect("once is enough");
    let mut connection = PgConnection::connect_with(&first.options()).await.expect("connect");
    sqlx::query("create table kept (id integer)")
        .execute(&mut connection)
        .await
        .expect("create");
    connection.close().await.expect("close");
    // A second user of the same folder joins; the first to go leaves it running.
    let second = start();
    assert_eq!(first.socket(), second.socket());
    first.stop().expect("stop");
    assert!(answers(&second).await, "another uses it");
    // As after a crash of all of them: found running, gone on with.
    drop(second);
    let third = start();
    assert!(answers(&third).await);
    let options = third.options();
    third.stop().expect("stop");
    assert!(PgConnection::connect_with(&options).await.is_err(), "nobody uses it");
    let fourth = start();
    let mut connection = PgConnection::connect_with(&fourth.options()).await.expect("connect");
    sqlx::query("select id from kept")
        .fetch_all(&mut connection)
        .await
        .expect("what was stored is there");
    connection.close().await.expect("close");
    fourth.stop().expect("stop");
    std::fs::remove_dir_all(&folder).expect("removed");
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        let unknown = Cluster::start(&folder, "nobody-of-this-name", Durability::None);
        assert!(
            unknown
                .expect_err("root may not")
                .to_string()
                .contains("nobody-of-this-name")
        );
    }
    std::fs::remove_dir_all(&folder).ok();
}
