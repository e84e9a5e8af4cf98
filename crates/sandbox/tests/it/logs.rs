//! What containers write.

use std::time::Duration;

use runtime::Runtime;

use crate::machine::with_machine;

#[test]
fn everything_written_is_logged_before_the_end_is_told() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "yes abcdefghij | head -n 20000; printf end").await;
        let status = machine.ended(&id).await;
        assert_eq!(status.exit_code, 0);
        let text = std::fs::read_to_string(&status.log_path).unwrap();
        assert_eq!(text.lines().count(), 20_001);
        // What has no end of line is not read with one.
        assert!(text.lines().last().unwrap().ends_with(" stdout P end"));
        assert!(text.lines().all(|line| line.ends_with(" stdout F abcdefghij") || line.ends_with(" P end")));
    });
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_again() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let script = "n=0; while true; do echo $n; n=$((n+1)); sleep 0.01; done";
        let id = machine.start(&sandbox, script).await;
        let path = machine.runtime.container_status(&id).await.unwrap().log_path;
        let old = path.with_extension("old");
        wait_for(&path).await;
        std::fs::rename(&path, &old).unwrap();
        machine.runtime.reopen_log(&id).await.unwrap();
        wait_for(&path).await;
        machine.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        let both = std::fs::read_to_string(&old).unwrap() + &std::fs::read_to_string(&path).unwrap();
        let numbers: Vec<usize> =
            both.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    });
}

async fn wait_for(path: &std::path::Path) {
    for _ in 0..1000 {
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} stays empty", path.display());
}
