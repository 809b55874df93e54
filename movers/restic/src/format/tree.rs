//! Trees: the listing of one directory, written and read entry by entry.

use serde::de::IgnoredAny;
use serde_json::{Deserializer, StreamDeserializer};

use super::node::{Node, NodeJson};

/// In front of the entries.
const HEAD: &[u8] = br#"{"nodes":["#;
/// Behind them.
const TAIL: &[u8] = b"]}\n";

/// Joins entries that are JSON already into a tree. Each part is one or several entries with
/// commas between them, or nothing.
pub fn build_tree<'a>(parts: impl IntoIterator<Item = &'a [u8]>, tree: &mut Vec<u8>) {
    tree.clear();
    tree.extend_from_slice(HEAD);
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if tree.len() > HEAD.len() {
            tree.push(b',');
        }
        tree.extend_from_slice(part);
    }
    tree.extend_from_slice(TAIL);
}

/// Reads a tree (decrypted) entry by entry. Keys it does not know are passed over.
#[derive(Debug)]
pub struct TreeReader {
    json: Vec<u8>,
    at: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    First,
    Within,
    End,
}

impl TreeReader {
    /// Reads what this holds.
    pub const fn new(json: Vec<u8>) -> Self {
        Self { json, at: 0, state: State::Start }
    }

    /// The next entry; `None` at the end. After an error there is nothing more.
    pub fn next_node(&mut self) -> Result<Option<Node>, String> {
        let next = self.read();
        if !matches!(next, Ok(Some(_))) {
            self.state = State::End;
            self.json = Vec::new();
        }
        next
    }

    fn read(&mut self) -> Result<Option<Node>, String> {
        match self.state {
            State::End => return Ok(None),
            State::Start => {
                if !self.enter()? {
                    return Ok(None);
                }
                self.state = State::First;
            }
            State::First | State::Within => {}
        }
        match self.token()? {
            b']' => return Ok(None),
            b',' if self.state == State::Within => {}
            _ if self.state == State::First => self.at -= 1,
            _ => return Err("the listing is malformed between two entries".to_owned()),
        }
        self.state = State::Within;
        let rest = self.json.get(self.at..).unwrap_or_default();
        let mut values: StreamDeserializer<'_, _, NodeJson<'_>> =
            Deserializer::from_slice(rest).into_iter();
        let node = values.next().ok_or("the listing ends within its entries")?;
        let node = node.map_err(|error| format!("an entry is malformed: {error}"))?;
        self.at += values.byte_offset();
        Ok(Some(node.into_node()?))
    }

    /// Goes to the first entry; false if there is no list of entries.
    fn enter(&mut self) -> Result<bool, String> {
        const MALFORMED: &str = "the listing is malformed at its start";
        if self.token()? != b'{' {
            return Err(MALFORMED.to_owned());
        }
        loop {
            let key: String = match self.token()? {
                b'}' => return Ok(false),
                b',' => continue,
                _ => {
                    self.at -= 1;
                    self.value()?
                }
            };
            if self.token()? != b':' {
                return Err(MALFORMED.to_owned());
            }
            if key != "nodes" {
                let _: IgnoredAny = self.value()?;
                continue;
            }
            return match self.token()? {
                b'[' => Ok(true),
                // Go writes a list without entries as null.
                b'n' => Ok(false),
                _ => Err(MALFORMED.to_owned()),
            };
        }
    }

    fn value<'a, T: serde::Deserialize<'a>>(&'a mut self) -> Result<T, String> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let mut values = Deserializer::from_slice(rest).into_iter();
        let value = values.next().ok_or("the listing ends at its start")?;
        self.at += values.byte_offset();
        value.map_err(|error: serde_json::Error| error.to_string())
    }

    /// The next byte that is no white space.
    fn token(&mut self) -> Result<u8, String> {
        loop {
            let byte = *self.json.get(self.at).ok_or("the listing ends too early")?;
            self.at += 1;
            if !byte.is_ascii_whitespace() {
                return Ok(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use volsync_mover::{Kind, Time, Xattr};

    use super::super::id::Id;
    use super::*;

    fn node(name: &[u8]) -> Node {
        let time = Time { seconds: 1, nanoseconds: 5 };
        Node {
            name: name.to_vec(),
            kind: Some(Kind::File),
            mode: 0o644,
            mtime: time,
            atime: time,
            ctime: time,
            uid: 0,
            gid: 7,
            user: "root".to_owned(),
            group: String::new(),
            inode: 12,
            device_id: 3,
            size: 4,
            links: 1,
            link_target: Vec::new(),
            xattrs: vec![Xattr { name: b"user.a".to_vec(), value: vec![0, 255] }],
            device: 0,
            content: vec![Id::of(b"a")],
            subtree: None,
        }
    }

    fn read(json: &[u8]) -> Result<Vec<Node>, String> {
        let mut reader = TreeReader::new(json.to_vec());
        let mut nodes = Vec::new();
        while let Some(node) = reader.next_node()? {
            nodes.push(node);
        }
        Ok(nodes)
    }

    #[test]
    fn a_node_is_written_as_restic_writes_it() {
        let mut json = Vec::new();
        node(b"a<\n").write(&mut json);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"name":"a\u003c\\n","type":"file","mode":420,"mtime":"1970-01-01T00:00:01.000000005Z","atime":"1970-01-01T00:00:01.000000005Z","ctime":"1970-01-01T00:00:01.000000005Z","uid":0,"gid":7,"user":"root","inode":12,"device_id":3,"size":4,"links":1,"extended_attributes":[{"name":"user.a","value":"AP8="}],"content":["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}"#
        );
    }

    #[test]
    fn trees_come_back() {
        let mut links = node(b"b");
        links.kind = Some(Kind::Symlink);
        links.link_target = b"\xff/x".to_vec();
        links.content = Vec::new();
        let nodes = vec![node(b"\xffa"), links, node("\u{e4} \u{200b}".as_bytes())];
        let parts: Vec<Vec<u8>> = nodes
            .iter()
            .map(|node| {
                let mut out = Vec::new();
                node.write(&mut out);
                out
            })
            .collect();
        let mut tree = Vec::new();
        build_tree(parts.iter().map(|part| &part[..]), &mut tree);
        assert_eq!(read(&tree).unwrap(), nodes);
        build_tree([], &mut tree);
        assert_eq!(tree, b"{\"nodes\":[]}\n");
        assert_eq!(read(&tree).unwrap(), Vec::new());
    }

    #[test]
    fn keys_from_the_future_are_passed_over() {
        let json = br#" { "new" : [1,{"a":2}], "nodes" : [ {"name":"a","new":{"b":[]}} ] , "x":1}"#;
        assert_eq!(read(json).unwrap()[0].name, b"a");
        assert!(read(br#"{"nodes":null}"#).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        for bad in [
            &b""[..],
            b"[]",
            b"{",
            b"{\"nodes\":[{}]}",
            b"{\"nodes\":[{\"name\":\"a\"}",
            b"{\"nodes\":[{\"name\":\"\\\\q\"}]}",
            b"{\"nodes\":[,]}",
        ] {
            assert!(read(bad).is_err(), "{:?}", std::str::from_utf8(bad));
        }
        let deep = [&br#"{"a":"#[..], &[b'['; 100_000]].concat();
        assert!(read(&deep).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let whole = [br#"{"nodes":[{"name":"a"},"#, &json[..]].concat();
            prop_assert!(read(&whole).is_err());
            drop(read(&json));
        }
    }
}
