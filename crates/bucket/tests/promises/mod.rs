//! What every store promises.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::io;
use volsync_bucket::{Entry, Kind, Store};

/// Which names a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Any at all.
    Any,
    /// Those without control characters, and without a backslash, of which Azure makes a slash.
    Printable,
    /// Those that are the same whether a listing encodes them or not: s3s-fs says that it does, and
    /// does not.
    Unencoded,
    /// Those of the files of a restic repository alone.
    Restic,
}

/// Names that are written differently somewhere: in addresses, in XML, in shells.
const ODD: &[&str] = &[
    "a b/c d",
    "100%/%41%2F",
    "what?/is=this&that",
    "a+b/c++",
    "ünï/日本語/🙂",
    "quote\"/apo'strophe/<tag>&amp;",
    "#hash/semi;colon:and,comma",
    "back\\slash/~tilde/[bracket]{brace}|pipe^`",
    "…/-dash/.hidden/..dots",
    "line\nbreak",
];

/// Holds one store, which is empty and may not exist yet, against all promises.
pub(crate) async fn keeps_all(store: &dyn Store, names: Names) {
    store.create().await.unwrap();
    store.create().await.unwrap();
    assert!(keys(store, "").await.is_empty());
    an_object_comes_back(store).await;
    what_is_to_be_new_replaces_nothing(store).await;
    ranges_are_exact(store).await;
    what_is_not_there_is_said(store).await;
    deleting_twice_is_fine(store).await;
    more_than_a_page_is_listed(store).await;
    a_prefix_is_the_beginning_of_a_key(store).await;
    a_large_stream_arrives(store).await;
    a_broken_stream_leaves_nothing(store).await;
    match names {
        Names::Any => odd_names_come_back(store, ODD, |_| true).await,
        Names::Printable => {
            let is_odd = |c: char| c.is_control() || c == '\\';
            let printable: Vec<&str> =
                ODD.iter().filter(|key| !key.contains(is_odd)).copied().collect();
            odd_names_come_back(store, &printable, |_| true).await;
        }
        Names::Unencoded => {
            odd_names_come_back(store, ODD, |key| !key.contains(['%', '+'])).await;
        }
        Names::Restic => {}
    }
}

pub(crate) async fn keys(store: &dyn Store, prefix: &str) -> BTreeSet<String> {
    let entries: Vec<Entry> = store.list(prefix).try_collect().await.unwrap();
    let count = entries.len();
    let keys: BTreeSet<String> = entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys.len(), count, "each once");
    keys
}

/// The name that restic gives to the pack with this number.
fn pack(number: usize) -> String {
    let name = format!("{:02x}{number:062x}", number % 256);
    format!("data/{}/{name}", &name[..2])
}

async fn an_object_comes_back(store: &dyn Store) {
    for content in ["first", "", "second, which is longer than the first"] {
        store.put("config", Bytes::from_static(content.as_bytes())).await.unwrap();
        assert_eq!(store.get("config", None).await.unwrap(), content);
        let entry = store.head("config").await.unwrap();
        assert_eq!((entry.key.as_str(), entry.size), ("config", content.len() as u64));
        let listed: Vec<Entry> = store.list("config").try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].key.as_str(), listed[0].size), ("config", content.len() as u64));
        if let Some(modified) = entry.modified {
            let age = jiff::Timestamp::now().duration_since(modified).abs();
            assert!(age.as_secs() < 3600, "{modified}");
        }
    }
    store.delete("config").await.unwrap();
}

async fn what_is_to_be_new_replaces_nothing(store: &dyn Store) {
    assert!(store.put_new("config", Bytes::from_static(b"first")).await.unwrap());
    assert!(!store.put_new("config", Bytes::from_static(b"second")).await.unwrap());
    assert_eq!(store.get("config", None).await.unwrap(), "first");
    store.delete("config").await.unwrap();
    // Of several at once it is one.
    let contents: Vec<String> = (0..8).map(|number| format!("of {number}")).collect();
    let puts = contents
        .iter()
        .map(|content| store.put_new("config", Bytes::copy_from_slice(content.as_bytes())));
    let done: Vec<bool> = futures::future::try_join_all(puts).await.unwrap();
    let winners: Vec<usize> = (0..8).filter(|number| done[*number]).collect();
    if store.is_exclusive() {
        assert_eq!(winners.len(), 1, "{done:?}");
        assert_eq!(store.get("config", None).await.unwrap(), contents[winners[0]]);
    }
    store.delete("config").await.unwrap();
    assert!(keys(store, "").await.is_empty());
}

async fn ranges_are_exact(store: &dyn Store) {
    let key = pack(0);
    let content: Vec<u8> = (0..1000_u32).map(|at| (at % 251) as u8).collect();
    store.put(&key, content.clone().into()).await.unwrap();
    for range in [0..1, 0..1000, 1..999, 999..1000, 0..0, 500..500, 1000..1000] {
        let got = store.get(&key, Some(range.clone())).await.unwrap();
        assert_eq!(got, content[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [0..1001, 999..1001, 1000..1001, 1001..1001, 5000..6000] {
        let error = store.get(&key, Some(range.clone())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::OutOfRange, "{range:?}: {error}");
    }
    let empty = pack(1);
    store.put(&empty, Bytes::new()).await.unwrap();
    assert!(store.get(&empty, Some(0..0)).await.unwrap().is_empty());
    let error = store.get(&empty, Some(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfRange, "{error}");
    for key in [key, empty] {
        store.delete(&key).await.unwrap();
    }
}

async fn what_is_not_there_is_said(store: &dyn Store) {
    for key in ["config".to_owned(), pack(7), "keys/00".to_owned()] {
        for error in [
            store.head(&key).await.unwrap_err(),
            store.get(&key, None).await.unwrap_err(),
            store.get(&key, Some(0..10)).await.unwrap_err(),
            store.get(&key, Some(0..0)).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.key()), (Kind::NotFound, key.as_str()), "{error}");
        }
    }
    assert!(keys(store, "snapshots/").await.is_empty());
    assert_eq!(store.put("", Bytes::new()).await.unwrap_err().kind(), Kind::Invalid);
}

async fn deleting_twice_is_fine(store: &dyn Store) {
    let key = pack(9);
    store.delete(&key).await.unwrap();
    store.put(&key, Bytes::from_static(b"x")).await.unwrap();
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap_err().kind(), Kind::NotFound);
    assert!(!keys(store, "").await.contains(&key));
}

async fn more_than_a_page_is_listed(store: &dyn Store) {
    const COUNT: usize = 2100;
    stream::iter(0..COUNT)
        .for_each_concurrent(16, |number| async move {
            store.put(&pack(number), Bytes::from_static(b"pack")).await.unwrap();
        })
        .await;
    let all: BTreeSet<String> = (0..COUNT).map(pack).collect();
    assert_eq!(keys(store, "data/").await, all);
    assert_eq!(keys(store, "").await, all);
    let some: BTreeSet<String> =
        all.iter().filter(|key| key.starts_with("data/0a/")).cloned().collect();
    assert_eq!(keys(store, "data/0a/").await, some);
    assert!(!some.is_empty());
    stream::iter(all)
        .for_each_concurrent(16, |key| async move { store.delete(&key).await.unwrap() })
        .await;
    assert!(keys(store, "").await.is_empty());
}

async fn a_prefix_is_the_beginning_of_a_key(store: &dyn Store) {
    for key in ["keys/a", "keys/ab", "keys/b", "locks/a"] {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let expect = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(keys(store, "keys/a").await, expect(&["keys/a", "keys/ab"]));
    assert_eq!(keys(store, "keys/").await, expect(&["keys/a", "keys/ab", "keys/b"]));
    assert_eq!(keys(store, "keys").await, expect(&["keys/a", "keys/ab", "keys/b"]));
    assert_eq!(keys(store, "keys/b/").await, expect(&[]));
    assert_eq!(keys(store, "../").await, expect(&[]));
    for key in keys(store, "").await {
        store.delete(&key).await.unwrap();
    }
}

async fn a_large_stream_arrives(store: &dyn Store) {
    const CHUNK: usize = 100_000;
    const LENGTH: usize = 40 << 20;
    let key = pack(40);
    let chunk = |at: usize| {
        let length = CHUNK.min(LENGTH - at);
        Ok(Bytes::from((at..at + length).map(|at| (at * 7 / 3) as u8).collect::<Vec<u8>>()))
    };
    let chunks = stream::iter((0..LENGTH).step_by(CHUNK).map(chunk)).boxed();
    store.put_stream(&key, chunks).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().size, LENGTH as u64);
    let back = store.get(&key, None).await.unwrap();
    assert_eq!(back.len(), LENGTH);
    let damaged = back.iter().enumerate().find(|(at, byte)| **byte != (at * 7 / 3) as u8);
    assert_eq!(damaged, None);
    let middle = store.get(&key, Some(20_000_000..20_000_010)).await.unwrap();
    assert_eq!(middle, back.slice(20_000_000..20_000_010));
    store.put_stream(&key, stream::empty().boxed()).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().size, 0);
    store.delete(&key).await.unwrap();
}

async fn a_broken_stream_leaves_nothing(store: &dyn Store) {
    let key = pack(41);
    for good_chunks in [0, 1, 30] {
        let good = stream::iter((0..good_chunks).map(|_| Ok(Bytes::from(vec![1; 1 << 20]))));
        let broken = stream::once(async { Err(io::Error::other("the disk is gone")) });
        let error = store.put_stream(&key, good.chain(broken).boxed()).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::Content, "the disk is gone"));
        assert_eq!(store.head(&key).await.unwrap_err().kind(), Kind::NotFound);
        assert!(keys(store, "").await.is_empty());
    }
}

async fn odd_names_come_back(store: &dyn Store, odd: &[&str], listed: impl Fn(&str) -> bool) {
    for key in odd {
        store.put(key, Bytes::copy_from_slice(key.as_bytes())).await.unwrap();
        assert_eq!(store.get(key, None).await.unwrap(), *key);
        assert_eq!(store.head(key).await.unwrap().key, *key);
        if !listed(key) {
            store.delete(key).await.unwrap();
        }
    }
    let all: BTreeSet<String> =
        odd.iter().filter(|key| listed(key)).map(|key| (*key).to_owned()).collect();
    assert_eq!(keys(store, "").await, all);
    for key in &all {
        assert!(keys(store, key).await.contains(key));
        store.delete(key).await.unwrap();
    }
    assert!(keys(store, "").await.is_empty());
}
