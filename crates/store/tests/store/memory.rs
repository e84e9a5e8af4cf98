//! The backend in memory: the contract, and what is its own.

use store::{Memory, Store};

use crate::contract::{Backend, contract, events, put};

struct InMemory(Memory);

impl Backend for InMemory {
    type Store = Memory;
    type Shared = ();

    fn new((): &()) -> Self {
        Self(Memory::default())
    }

    async fn open(&self) -> Memory {
        self.0.clone()
    }

    async fn close(_: Memory) {}
}

contract!(InMemory);

#[tokio::test]
async fn a_fork_goes_its_own_way() {
    let store = Memory::default();
    store.commit(put("k", "1")).await.unwrap();
    let fork = store.fork();
    store.commit(put("k", "2")).await.unwrap();
    let mut watch = fork.watch("".into(), 0).await.unwrap();
    fork.commit(put("k", "other")).await.unwrap();
    let values: Vec<_> =
        events(&mut watch, 2).await.into_iter().map(|event| event.entry.unwrap().value).collect();
    assert_eq!(values, ["1", "other"]);
    assert_eq!(store.get(b"k", None).await.unwrap().unwrap().value, "2");
}
