//! Batches that wait for company.

use std::time::Duration;

use super::*;

/// Nobody waits for so long here: who is answered was not left to wait.
const FOR_EVER: Duration = Duration::from_secs(3600);
const BRIEFLY: Duration = Duration::from_millis(1);

/// A disk that tells how many batches each sync was for.
fn counted() -> (Disk, mpsc::UnboundedReceiver<usize>) {
    let (tries, tried) = mpsc::unbounded_channel();
    let engine = Cramped { has_room: Arc::new(AtomicBool::new(true)), tries };
    (Disk::start(Box::new(engine)).unwrap(), tried)
}

fn patient(value: &str, patience: Duration) -> Batch {
    let mut batch = put(A, "k", value);
    batch.wait(patience);
    batch
}

/// Queues a batch before it returns.
async fn submit(disk: &Disk, batch: Batch) -> oneshot::Receiver<Result<(), Error>> {
    let (done, outcome) = oneshot::channel();
    let reservation = disk.reserve(batch.size()).await.unwrap();
    reservation.submit(batch, move |result| done.send(result).unwrap()).unwrap();
    outcome
}

#[tokio::test]
async fn one_that_waits_in_vain_is_written_alone() {
    let (disk, mut tried) = counted();
    disk.commit(patient("1", BRIEFLY)).await.unwrap();
    assert_eq!(tried.try_recv(), Ok(1));
}

#[tokio::test]
async fn those_who_wait_share_the_sync_of_one_who_does_not() {
    let (disk, mut tried) = counted();
    let waiting = [submit(&disk, patient("1", FOR_EVER)).await, submit(&disk, patient("2", FOR_EVER)).await];
    disk.commit(put(A, "k", "3")).await.unwrap();
    for mut outcome in waiting {
        assert_eq!(outcome.try_recv(), Ok(Ok(())), "before those that came later");
    }
    assert_eq!((tried.try_recv(), tried.try_recv().ok()), (Ok(3), None));
}

#[tokio::test]
async fn the_least_patient_says_when() {
    let (disk, mut tried) = counted();
    let first = submit(&disk, patient("1", FOR_EVER)).await;
    disk.commit(patient("2", BRIEFLY)).await.unwrap();
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!((tried.try_recv(), tried.try_recv().ok()), (Ok(2), None));
}

#[tokio::test]
async fn who_waited_without_company_does_not_wait_again() {
    let (disk, mut tried) = counted();
    disk.commit(patient("1", BRIEFLY)).await.unwrap();
    disk.commit(patient("2", FOR_EVER)).await.unwrap();
    assert_eq!((tried.try_recv(), tried.try_recv()), (Ok(1), Ok(1)));
}

#[tokio::test]
async fn who_had_company_waits_again() {
    let (disk, mut tried) = counted();
    let mut company = Vec::new();
    for count in 0..15 {
        company.push(submit(&disk, patient(&count.to_string(), FOR_EVER)).await);
    }
    disk.commit(patient("15", BRIEFLY)).await.unwrap();
    let waiting = submit(&disk, patient("16", FOR_EVER)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    disk.commit(put(A, "k", "17")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!((tried.try_recv(), tried.try_recv()), (Ok(16), Ok(2)));
}

#[tokio::test]
async fn as_much_as_a_group_takes_does_not_wait() {
    let (disk, _tried) = counted();
    let large = "x".repeat(1 << 20);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(submit(&disk, patient(&large, FOR_EVER)).await);
    }
    for outcome in waiting {
        assert_eq!(outcome.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn what_waits_is_written_at_the_end() {
    let (disk, mut tried) = counted();
    let outcome = submit(&disk, patient("1", FOR_EVER)).await;
    disk.close().await.unwrap();
    assert_eq!((outcome.await.unwrap(), tried.try_recv()), (Ok(()), Ok(1)));

    let (disk, mut tried) = counted();
    let outcome = submit(&disk, patient("1", FOR_EVER)).await;
    drop(disk);
    assert_eq!((outcome.await.unwrap(), tried.try_recv()), (Ok(()), Ok(1)));
}

#[tokio::test]
async fn a_failure_is_told_to_those_who_wait_and_they_wait_no_more() {
    let disk = Disk::start(Box::new(Brittle(1))).unwrap();
    let failed = Err(Error::Failed("no space left on device".into()));
    let waiting = submit(&disk, patient("1", FOR_EVER)).await;
    assert_eq!(disk.commit(put(A, "k", "2")).await, failed);
    assert_eq!(waiting.await.unwrap(), failed);
    assert_eq!(disk.commit(patient("3", FOR_EVER)).await, failed);
}
