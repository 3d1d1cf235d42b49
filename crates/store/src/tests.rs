use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use packet::MacAddr;

use super::*;

fn open(directory: &Path) -> Store {
    let opened = Store::open(directory).unwrap();
    assert!(opened.moved_aside.is_none(), "{:?}", opened.moved_aside);
    opened.store
}

fn binding(last: u8) -> StoredBinding {
    StoredBinding {
        address: Ipv4Addr::new(10, 0, 0, last),
        mac: MacAddr([2, 0, 0, 0, 0, last]),
        client_id: Some(vec![1, 2, last]),
        name: Some("web".into()),
        duration_secs: Some(3600),
        expires_unix: Some(1_700_000_000),
    }
}

fn commit_binding(store: &mut Store, lan: &str, binding: StoredBinding) {
    let mut batch = Batch::new();
    batch.push_lan(lan, &dhcp::server::StoreRecord::Binding(binding));
    store.commit(&batch).unwrap();
}

#[test]
fn bindings_come_back_by_lan_and_address_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    for last in [9, 3] {
        commit_binding(&mut store, "home", binding(last));
    }
    commit_binding(&mut store, "homes", binding(5));
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.bindings("home").unwrap(), [binding(3), binding(9)]);
    assert_eq!(store.bindings("guests").unwrap(), []);
}

#[test]
fn a_later_record_replaces_or_forgets_an_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let renewed = StoredBinding { expires_unix: None, ..binding(3) };
    let mut batch = Batch::new();
    for record in [
        dhcp::server::StoreRecord::Binding(binding(3)),
        dhcp::server::StoreRecord::Binding(binding(4)),
        dhcp::server::StoreRecord::Binding(renewed.clone()),
        dhcp::server::StoreRecord::Forget(binding(4).address),
    ] {
        batch.push_lan("home", &record);
    }
    store.commit(&batch).unwrap();
    assert_eq!(store.bindings("home").unwrap(), [renewed]);
}

#[test]
fn reservations_wan_leases_values_and_counters_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mac = MacAddr([0xff; 6]);
    let reservation =
        Reservation { mac, address: Ipv4Addr::new(10, 0, 0, 5), name: Some("web".into()) };
    let json = r#"{"settings":{"address":"198.51.100.7","prefix":"198.51.100.0/24","routes":
        [{"destination":"0.0.0.0/0","gateway":"198.51.100.1"}],"dns":[],"domain":null,"ntp":[],
        "mtu":null},"server":"198.51.100.1","server_mac":"02:00:00:00:00:01","duration_secs":60,
        "obtained_unix":1,"expires_unix":61}"#;
    let lease: StoredLease = serde_json::from_str(json).unwrap();
    let mut batch = Batch::new();
    batch.push_lan("home", &dhcp::server::StoreRecord::Reservation(reservation.clone()));
    batch.push_wan("wan0", &dhcp::client::StoreRecord::Keep(lease.clone()));
    batch.put_value("forward", "a", &(8080, "web")).unwrap();
    batch.put_value("forward", "b", &(22, "web")).unwrap();
    batch.put_value("forwards", "c", &1).unwrap();
    batch.remove_value("forward", "b");
    store.commit(&batch).unwrap();
    assert_eq!(store.increment("port-epoch").unwrap(), 1);
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(store.reservations("home").unwrap(), [reservation]);
    assert_eq!(store.wan_lease("wan0").unwrap(), Some(lease));
    let forwards: Vec<(String, (u16, String))> = store.values("forward").unwrap();
    assert_eq!(forwards, [("a".to_owned(), (8080, "web".to_owned()))]);
    assert_eq!(store.increment("port-epoch").unwrap(), 2);

    let mut batch = Batch::new();
    batch.push_lan("home", &dhcp::server::StoreRecord::Unreserve(mac));
    batch.push_wan("wan0", &dhcp::client::StoreRecord::Forget);
    store.commit(&batch).unwrap();
    assert!(store.reservations("home").unwrap().is_empty());
    assert!(store.wan_lease("wan0").unwrap().is_none());
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_fresh_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    for garbage in [&b"not a database"[..], &[0xa5; 100_000]] {
        fs::write(&file, garbage).unwrap();
        let opened = Store::open(directory.path()).unwrap();
        let aside = opened.moved_aside.expect("the damage is reported");
        assert!(matches!(aside.reason, Unusable::Damaged(_)), "{:?}", aside.reason);
        assert_eq!(fs::read(aside.path).unwrap(), garbage);
        assert!(opened.store.bindings("home").unwrap().is_empty());
    }
}

#[test]
fn any_damaged_page_is_found_at_start_and_never_panics_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    for last in 0..200 {
        commit_binding(&mut store, "home", binding(last));
    }
    drop(store);
    let file = directory.path().join(FILE_NAME);
    let good = fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        let end = (at + 64).min(bad.len());
        bad[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&file, &bad).unwrap();
        let opened = Store::open(directory.path()).unwrap();
        // Damage to a page of the last commit takes that commit back; anything worse is moved aside.
        let bindings = opened.store.bindings("home").unwrap();
        assert!(opened.moved_aside.is_some() || bindings.len() >= 199, "damage at {at}");
    }
}

#[test]
fn a_file_that_ended_several_starts_is_moved_aside_but_not_after_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    commit_binding(&mut store, "home", binding(1));
    drop(store);
    let mark = directory.path().join("state.redb.opening");
    fs::write(&mark, b".").unwrap();
    assert_eq!(open(directory.path()).bindings("home").unwrap().len(), 1);
    fs::write(&mark, b"...").unwrap();
    let opened = Store::open(directory.path()).unwrap();
    assert!(matches!(opened.moved_aside.unwrap().reason, Unusable::Crashes));
    assert!(!mark.exists());
}

#[test]
fn a_truncated_file_does_not_keep_the_router_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    commit_binding(&mut store, "home", binding(1));
    drop(store);
    let file = directory.path().join(FILE_NAME);
    let good = fs::read(&file).unwrap();
    for len in [1, 100, 4096, good.len() / 2, good.len() - 1] {
        fs::write(&file, &good[..len]).unwrap();
        let _ = Store::open(directory.path()).unwrap().store.bindings("home").unwrap();
    }
}

#[test]
fn a_newer_schema_is_moved_aside_with_both_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(SCHEMA_KEY, 7).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let opened = Store::open(directory.path()).unwrap();
    let reason = opened.moved_aside.unwrap().reason;
    assert!(matches!(reason, Unusable::NewerSchema { found: 7, known: SCHEMA }), "{reason}");
}

#[test]
fn a_second_router_on_the_same_state_is_refused_with_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());
    let Err(error) = Store::open(directory.path()) else { panic!("opened twice") };
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("state.redb"));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_with_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let Err(error) = Store::open(&file.join("state")) else { panic!("opened below a file") };
    assert!(error.to_string().contains("file/state"), "{error}");
}

#[test]
fn a_record_that_cannot_be_read_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    commit_binding(&mut store, "home", binding(1));
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(BINDINGS).unwrap().insert(("home", 5), &b"{}"[..]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(store.bindings("home").unwrap(), [binding(1)]);
}

#[test]
fn reopening_after_an_io_error_keeps_what_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    commit_binding(&mut store, "home", binding(1));
    store.reopen().unwrap();
    commit_binding(&mut store, "home", binding(2));
    assert_eq!(store.bindings("home").unwrap().len(), 2);
}

const FORMAT: u64 = 7;

fn words(store: &Store, format: u64, count: usize) -> (MappedWords, Option<PathBuf>) {
    let opened = store.open_words("ports", format, count).unwrap();
    (opened.words, opened.moved_aside)
}

#[test]
fn words_are_zero_at_first_and_come_back_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (first, moved) = words(&store, FORMAT, 1000);
    assert_eq!((first.as_ref().len(), moved), (1000, None));
    assert!(first.as_ref().iter().all(|word| word.load(Ordering::Relaxed) == 0));
    first.as_ref()[999].store(u64::MAX - 1, Ordering::Relaxed);
    let (second, _) = words(&store, FORMAT, 1000);
    assert_eq!(second.as_ref()[999].load(Ordering::Relaxed), u64::MAX - 1, "without a close");
    drop((first, second, store));
    let store = open(directory.path());
    let (third, moved) = words(&store, FORMAT, 1000);
    assert_eq!((third.as_ref()[999].load(Ordering::Relaxed), moved), (u64::MAX - 1, None));
}

#[test]
fn words_of_another_format_or_number_are_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    words(&store, FORMAT, 1000).0.as_ref()[0].store(1, Ordering::Relaxed);
    for (format, count) in [(FORMAT + 1, 1000), (FORMAT + 1, 999)] {
        let (fresh, moved) = words(&store, format, count);
        assert_eq!(moved, Some(directory.path().join("ports.damaged")));
        assert_eq!(fresh.as_ref().len(), count);
        assert_eq!(fresh.as_ref()[0].load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_file_of_words_that_was_cut_short_or_is_foreign_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    drop(words(&store, FORMAT, 1000));
    let path = directory.path().join("ports");
    let whole = fs::read(&path).unwrap();
    for damaged in [&[][..], &whole[..9], &whole[..4096], &whole[..whole.len() - 1], b"#!/bin/sh"] {
        fs::write(&path, damaged).unwrap();
        let (fresh, moved) = words(&store, FORMAT, 1000);
        assert_eq!(fs::read(moved.unwrap()).unwrap(), damaged);
        assert_eq!(fresh.as_ref()[999].load(Ordering::Relaxed), 0);
    }
}

#[test]
fn words_that_can_not_be_made_are_an_error_and_an_unfinished_file_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    fs::create_dir(directory.path().join("ports")).unwrap();
    let Err(error) = store.open_words("ports", FORMAT, 10) else { panic!("a directory") };
    assert_eq!(error.path, directory.path().join("ports"));
    fs::remove_dir(error.path).unwrap();
    fs::write(directory.path().join("ports.new"), vec![0xff; 1 << 20]).unwrap();
    let (fresh, moved) = words(&store, FORMAT, 10);
    assert_eq!((fresh.as_ref()[9].load(Ordering::Relaxed), moved), (0, None));
}
