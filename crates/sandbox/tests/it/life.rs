//! From creation to removal.

use std::time::{Duration, Instant};

use runtime::{ContainerConfig, ContainerState, Error, Runtime, SandboxState};

use crate::machine::{BUSYBOX, shell, with_machine};

#[test]
fn a_container_lives_and_ends_with_its_code() {
    with_machine(async |machine| {
        let runtime = &machine.runtime;
        let sandbox = runtime.run_sandbox(machine.sandbox()).await.unwrap();
        let status = runtime.sandbox_status(&sandbox).await.unwrap();
        assert_eq!((status.state, status.ips.len()), (SandboxState::Ready, 1));

        let id = runtime.create_container(&sandbox, shell("echo out; echo err >&2; exit 7")).await.unwrap();
        let status = runtime.container_status(&id).await.unwrap();
        assert_eq!(status.state, ContainerState::Created);
        assert!(status.created_at > 0 && status.started_at == 0);
        runtime.start_container(&id).await.unwrap();

        let status = machine.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
        assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
        let log = std::fs::read_to_string(&status.log_path).unwrap();
        assert!(log.contains(" stdout F out\n") && log.contains(" stderr F err\n"), "{log}");
        assert_eq!(&log[10..11], "T", "{log}");

        let code = machine.output(&sandbox, shell("true")).await.0;
        assert_eq!(code, 0);
        runtime.remove_container(&id).await.unwrap();
        runtime.remove_container(&id).await.unwrap();
        assert!(matches!(runtime.container_status(&id).await, Err(Error::NotFound { .. })));
        runtime.remove_sandbox(&sandbox).await.unwrap();
        assert!(runtime.list_sandboxes().await.unwrap().is_empty());
    });
}

#[test]
fn stopping_asks_first_and_kills_then() {
    with_machine(async |machine| {
        let runtime = &machine.runtime;
        let sandbox = runtime.run_sandbox(machine.sandbox()).await.unwrap();
        let polite =
            machine.start(&sandbox, "trap 'exit 3' TERM; echo ready; while true; do sleep 0.05; done").await;
        while machine.log(&polite).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        runtime.stop_container(&polite, Duration::from_secs(30)).await.unwrap();
        assert_eq!(runtime.container_status(&polite).await.unwrap().exit_code, 3);

        let deaf = machine.start(&sandbox, "trap '' TERM; while true; do sleep 1000; done").await;
        runtime.stop_container(&deaf, Duration::from_millis(50)).await.unwrap();
        assert_eq!(runtime.container_status(&deaf).await.unwrap().exit_code, 137);
        runtime.stop_container(&deaf, Duration::from_secs(1)).await.unwrap();

        let never = runtime.create_container(&sandbox, shell("true")).await.unwrap();
        runtime.stop_container(&never, Duration::from_secs(1)).await.unwrap();
        assert_eq!(runtime.container_status(&never).await.unwrap().state, ContainerState::Exited);
    });
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    with_machine(async |machine| {
        let runtime = &machine.runtime;
        let sandbox = runtime.run_sandbox(machine.sandbox()).await.unwrap();
        let missing = ContainerConfig { image: "test.local/nothing:1".into(), ..shell("true") };
        assert!(matches!(
            runtime.create_container(&sandbox, missing).await,
            Err(Error::NotFound { kind: "image", .. })
        ));
        let nowhere = ContainerConfig { command: vec!["no-such-program".into()], ..shell("") };
        let error = runtime.create_container(&sandbox, nowhere).await.unwrap_err();
        assert!(matches!(error, Error::Start(_)), "{error:?}");
        let error = error.to_string();
        assert!(error.contains("no-such-program") && error.contains("not found in $PATH"), "{error}");
        let volume = runtime::Mount {
            container_path: "/v".into(),
            host_path: "/no/such/volume".into(),
            ..runtime::Mount::default()
        };
        let unmountable = ContainerConfig { mounts: vec![volume], ..shell("true") };
        assert!(runtime.create_container(&sandbox, unmountable).await.is_err());
        assert!(runtime.list_containers().await.unwrap().is_empty());
        // And the sandbox is as good as before.
        assert_eq!(machine.output(&sandbox, shell("echo fine")).await, (0, "fine\n".to_owned()));
    });
}

#[test]
fn a_stopped_sandbox_keeps_its_records_until_it_is_removed() {
    with_machine(async |machine| {
        let runtime = &machine.runtime;
        let sandbox = runtime.run_sandbox(machine.sandbox()).await.unwrap();
        let id = machine.start(&sandbox, "sleep 1000").await;
        runtime.stop_sandbox(&sandbox).await.unwrap();
        runtime.stop_sandbox(&sandbox).await.unwrap();
        assert_eq!(runtime.sandbox_status(&sandbox).await.unwrap().state, SandboxState::NotReady);
        let status = runtime.container_status(&id).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
        assert!(runtime.create_container(&sandbox, shell("true")).await.is_err());
        // Another attempt of the same pod lives beside it, in the same control group.
        let next = runtime.run_sandbox(machine.sandbox()).await.unwrap();
        assert_eq!(machine.output(&next, shell("echo again")).await.1, "again\n");
        runtime.remove_sandbox(&sandbox).await.unwrap();
        assert_eq!(machine.output(&next, shell("echo again")).await.1, "again\n");
    });
}

#[test]
fn images_are_told_as_cri_does() {
    with_machine(async |machine| {
        let image = machine.runtime.image_status(BUSYBOX).await.unwrap().unwrap();
        assert_eq!((image.tags, image.uid), (vec![BUSYBOX.to_owned()], Some(0)));
        assert_eq!(machine.runtime.image_status(&image.id).await.unwrap().unwrap().id, image.id);
        assert_eq!(machine.runtime.image_status("other:1").await.unwrap(), None);
        // Nobody has said that a registry may be on this machine.
        let error = machine.runtime.pull_image("127.0.0.1:9/busybox", None).await.unwrap_err();
        assert!(error.to_string().contains("is refused"), "{error}");
        machine.runtime.remove_image(&image.id).await.unwrap();
        assert_eq!(machine.runtime.image_status(BUSYBOX).await.unwrap(), None);
    });
}

/// Not a limit, figures: `cargo nextest run --no-capture a_whole_life`.
#[test]
fn a_whole_life_is_short() {
    with_machine(async |machine| {
        let runtime = &machine.runtime;
        let began = Instant::now();
        let sandbox = machine.run_sandbox().await;
        eprintln!("sandbox: {:?}", began.elapsed());
        let mut steps = [const { Vec::new() }; 5];
        for _ in 0..20 {
            let began = Instant::now();
            let id = runtime.create_container(&sandbox, shell("true")).await.unwrap();
            let created = Instant::now();
            runtime.start_container(&id).await.unwrap();
            let started = Instant::now();
            machine.ended(&id).await;
            let ended = Instant::now();
            runtime.remove_container(&id).await.unwrap();
            for (times, took) in steps.iter_mut().zip([
                created - began,
                started - created,
                ended - started,
                ended.elapsed(),
                began.elapsed(),
            ]) {
                times.push(took);
            }
        }
        for (name, mut times) in ["create", "start", "end", "delete", "all"].into_iter().zip(steps) {
            times.sort();
            eprintln!("{name}: p50 {:?}", times[10]);
        }
        assert_eq!(runtime.list_containers().await.unwrap(), vec![]);
    });
}
