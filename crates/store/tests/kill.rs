//! What was acknowledged survives SIGKILL.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use dhcp::server::{StoreRecord, StoredBinding};
use packet::MacAddr;
use store::{Batch, Store};

const CHILD_DIRECTORY: &str = "STORE_TEST_CHILD_DIRECTORY";
const WORDS_DIRECTORY: &str = "STORE_TEST_WORDS_DIRECTORY";
const WORDS: usize = 5000;
const ACKNOWLEDGED: &str = "acknowledged ";

fn binding(number: u32) -> StoredBinding {
    StoredBinding {
        address: Ipv4Addr::from(0x0a00_0000 + number),
        mac: MacAddr([2, 0, 0, 0, (number >> 8) as u8, number as u8]),
        client_id: None,
        name: None,
        duration_secs: Some(3600),
        expires_unix: Some(1_700_000_000 + u64::from(number)),
    }
}

/// Does nothing in an ordinary run; as a child it writes leases until it is killed.
#[test]
fn child_writes_leases_until_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let mut store = Store::open(Path::new(&directory)).expect("open as child").store;
    let first = store.bindings("home").expect("read as child").len() as u32;
    for number in first.. {
        let mut batch = Batch::new();
        batch.push_lan("home", &StoreRecord::Binding(binding(number)));
        store.commit(&batch).expect("commit as child");
        println!("\n{ACKNOWLEDGED}{number}");
    }
}

/// As above, but what it writes are words, without a commit.
#[test]
fn child_writes_words_until_killed() {
    let Some(directory) = std::env::var_os(WORDS_DIRECTORY) else { return };
    let store = Store::open(Path::new(&directory)).expect("open as child").store;
    let words = store.open_words("words", 1, WORDS).expect("map as child").words;
    for number in 0.. {
        words.as_ref()[number % WORDS].store(number as u64, Ordering::Relaxed);
        if number % 1000 == 0 {
            println!("\n{ACKNOWLEDGED}{number}");
        }
    }
}

#[test]
fn req6888_8_words_survive_kill_9_without_a_commit() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "child_writes_words_until_killed", "--nocapture"])
        .env(WORDS_DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let acknowledged = lines
        .by_ref()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix(ACKNOWLEDGED)?.parse::<u64>().ok())
        .find(|number| *number >= 100_000)
        .expect("the child wrote that many");
    child.kill().expect("kill child");
    child.wait().expect("reap child");
    let store = Store::open(directory.path()).expect("open after the kill").store;
    let opened = store.open_words("words", 1, WORDS).expect("map after the kill");
    assert_eq!(opened.moved_aside, None);
    let words = opened.words.as_ref().iter().map(|word| word.load(Ordering::Relaxed));
    let (oldest, newest) = (words.clone().min().expect("some"), words.max().expect("some"));
    assert!(newest >= acknowledged, "{newest} of {acknowledged}");
    assert_eq!(newest - oldest, WORDS as u64 - 1, "each was written in its turn");
}

#[test]
fn ds14_acknowledged_leases_survive_kill_9() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut acknowledged = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "child_writes_leases_until_killed", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn child");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let numbers = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix(ACKNOWLEDGED)?.parse::<u32>().ok());
        let mut killed = false;
        for number in numbers {
            acknowledged = number + 1;
            if !killed && number >= round * 25 {
                child.kill().expect("kill child");
                killed = true;
            }
        }
        child.wait().expect("reap child");
        assert!(killed, "the child ended by itself");

        let opened = Store::open(directory.path()).expect("open after the kill");
        assert!(opened.moved_aside.is_none(), "{:?}", opened.moved_aside);
        let bindings = opened.store.bindings("home").expect("read after the kill");
        assert!(bindings.len() as u32 >= acknowledged, "round {round}: acknowledged, not stored");
        for (number, found) in bindings.iter().enumerate() {
            assert_eq!(*found, binding(number as u32));
        }
    }
}
