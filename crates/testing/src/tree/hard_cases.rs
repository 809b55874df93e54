//! Everything a volume can hold that replication gets wrong.

use std::path::Path;

use rustix::fs::FileType;

use super::Maker;
use super::attributes::{For, acl, try_xattr, xattr};
use crate::as_user::Privilege;
use crate::seed::Seed;

/// Fills `dir` with every hard case that `privilege` can read and write.
pub fn hard_cases(dir: &Path, privilege: Privilege) {
    let make = Maker::new(dir, privilege);
    odd_names(&make);
    modes(&make, privilege);
    contents(&make);
    symbolic_links(&make);
    hard_links(&make);
    sparse_files(&make);
    attributes(&make, privilege);
    special_files(&make, privilege);
    deep(&make);
    if privilege == Privilege::Root {
        owners(&make);
    }
    times(&make);
    make.mtime(dir, 1_111_111_111, 111_111_111);
}

/// Names of any bytes.
pub fn odd_names(make: &Maker) {
    make.dir("names");
    for byte in (1..=255u8).filter(|byte| *byte != b'/') {
        make.file([b"names/x", &[byte][..]].concat(), [byte]);
        if byte != b'.' {
            make.file([b"names/", &[byte][..]].concat(), [byte]);
        }
    }
    let long = "long".repeat(64)[..255].to_owned();
    let wide = format!("{}z", "\u{1f30d}".repeat(63));
    for name in [
        "-rf",
        "--delete",
        " ",
        "  lead",
        "trail ",
        "...",
        "....",
        "~",
        "*",
        "?[a-z]",
        "a\nb",
        "\n",
        "a\tb",
        "\\#012",
        "$(touch x)",
        "`id`",
        "'",
        "\"quoted\"",
        "CON",
        "a:b",
        "naïve",
        "nai\u{308}ve",
        "日本語",
        ".hidden",
        "#x#",
        "%00",
        "name;rm",
        &long,
        &wide,
    ] {
        let prefix = if name.len() < 250 { "names/file " } else { "names/" };
        make.file(format!("{prefix}{name}"), name);
        make.dir(format!("names-dir/{name}"));
        make.file(format!("names-dir/{name}/{name}"), name);
    }
    make.file(b"names/\xff\xfe invalid \xc3\x28".as_slice(), "not UTF-8");
    make.file(b"names/\xed\xa0\x80 surrogate".as_slice(), "not UTF-8 either");
}

fn modes(make: &Maker, privilege: Privilege) {
    make.dir("modes");
    for mode in [
        0o400, 0o444, 0o600, 0o640, 0o644, 0o666, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6755,
        0o7777,
    ] {
        make.file_with_mode(format!("modes/file-{mode:04o}"), mode);
    }
    for mode in [0o500, 0o555, 0o700, 0o755, 0o777, 0o1777, 0o2755, 0o2775, 0o4755, 0o7777] {
        let name = format!("modes/dir-{mode:04o}");
        let dir = make.dir(&name);
        make.file(format!("{name}/inside"), "a file in a directory of some mode");
        make.dir(format!("{name}/below"));
        make.mode(&dir, mode);
    }
    if privilege == Privilege::Root {
        for mode in [0o000, 0o111, 0o200, 0o4000, 0o2010] {
            make.file_with_mode(format!("modes/closed-{mode:04o}"), mode);
            let name = format!("modes/closed-dir-{mode:04o}");
            let dir = make.dir(&name);
            make.file(format!("{name}/inside"), "a file in a closed directory");
            make.mode(&dir, mode);
        }
    }
}

fn contents(make: &Maker) {
    let mut seed = Seed::new(1);
    make.dir("contents/empty");
    make.dir("contents/empty-below/a/b/c");
    for size in [
        0,
        1,
        4095,
        4096,
        4097,
        (64 << 10) + 1,
        (128 << 10) - 1,
        128 << 10,
        (128 << 10) + 1,
        256 << 10,
        (256 << 10) + 1,
        (1 << 20) + 3,
        5 << 20,
    ] {
        make.file(format!("contents/random-{size}"), seed.bytes(size));
    }
    make.file("contents/text", seed.text(300_000));
    make.file("contents/zeros-written", vec![0; 300_000]);
}

fn symbolic_links(make: &Maker) {
    make.dir("links/dir");
    make.file("links/dir/file", "behind a link");
    make.symlink("links/to-file", "dir/file");
    make.symlink("links/to-dir", "dir");
    make.symlink("links/to-dir-slash", "dir/");
    make.symlink("links/dangling", "no/such/file");
    make.symlink("links/absolute", "/etc/passwd");
    make.symlink("links/absolute-dir", "/");
    make.symlink("links/up", "../../../../../..");
    make.symlink("links/itself", "itself");
    make.symlink("links/blank", " ");
    make.symlink(b"links/bytes".as_slice(), b"\xff\n\x01".as_slice());
    make.symlink("links/longest", "t".repeat(4095));
    make.symlink("links/long", "long/".repeat(100));
    let dated = make.symlink("links/dated", "dir");
    make.mtime(&dated, 1_000_000_000, 5);
}

fn hard_links(make: &Maker) {
    make.dir("hard/one");
    make.dir("hard/two/below");
    let first = make.file("hard/one/first", Seed::new(2).bytes(200_000));
    make.hard_link("hard/two/below/second", &first);
    make.hard_link("hard/a-third", &first);
    make.dir("a-early");
    make.hard_link("a-early/fourth", &first);
    make.dir("z-late");
    make.hard_link("z-late/fifth", &first);
    let small = make.file("hard/one/small", "a small file with two names");
    make.hard_link("hard/two/small", &small);
    let empty = make.file("hard/one/empty", "");
    make.hard_link("hard/two/empty", &empty);
    let link = make.symlink("hard/one/link", "first");
    make.hard_link("hard/two/same-link", &link);
    let fifo = make.special("hard/one/fifo", FileType::Fifo, 0, 0);
    make.hard_link("hard/two/same-fifo", &fifo);
}

fn sparse_files(make: &Maker) {
    const MIB: u64 = 1 << 20;
    let data = Seed::new(3).bytes(64 << 10);
    make.dir("sparse");
    make.sparse("sparse/hole-at-start", 8 * MIB + data.len() as u64, &[(8 * MIB, &data)]);
    make.sparse(
        "sparse/hole-in-middle",
        8 * MIB,
        &[(0, &data), (8 * MIB - data.len() as u64, &data)],
    );
    make.sparse("sparse/hole-at-end", 8 * MIB, &[(0, &data)]);
    make.sparse("sparse/all-hole", 24 * MIB, &[]);
    make.sparse("sparse/small-hole", 16 << 10, &[]);
    make.sparse(
        "sparse/odd-offsets",
        3 * MIB + 17,
        &[(4097, &data[..5]), (MIB - 1, &data[..3]), (2 * MIB, b"x")],
    );
    let many: Vec<(u64, &[u8])> = (0..40).map(|n| (n * 128 * 1024, &data[..4096])).collect();
    make.sparse("sparse/many-holes", 40 * 128 * 1024, &many);
}

fn attributes(make: &Maker, privilege: Privilege) {
    make.dir("attributes");
    let file = make.file("attributes/file", "with attributes");
    xattr(&file, "user.plain", b"value");
    xattr(&file, "user.empty", b"");
    xattr(&file, "user.binary", b"\0\x01\xff\n");
    xattr(&file, b"user.odd \xff name".as_slice(), b"odd");
    let large = make.file("attributes/large", "");
    xattr(&large, "user.large", &Seed::new(4).bytes(3000));
    let dir = make.dir("attributes/dir");
    xattr(&dir, "user.of-a-directory", b"yes");
    let read_only = make.file("attributes/read-only", "read-only, yet with an attribute");
    xattr(&read_only, "user.kept", b"yes");
    make.mode(&read_only, 0o444);

    let access = make.file("attributes/acl", "for some");
    acl(
        &access,
        false,
        &[
            (For::Owner, 6),
            (For::User(1001), 4),
            (For::User(4_000_000), 6),
            (For::OwningGroup, 4),
            (For::Group(2002), 5),
            (For::Mask, 6),
            (For::Others, 0),
        ],
    );
    let inherited = make.dir("attributes/acl-default");
    make.file("attributes/acl-default/before", "made before the default ACL");
    make.dir("attributes/acl-default/before-dir");
    let entries = [
        (For::Owner, 7),
        (For::User(1001), 7),
        (For::OwningGroup, 5),
        (For::Mask, 7),
        (For::Others, 5),
    ];
    acl(&inherited, true, &entries);
    acl(&inherited, false, &entries);
    make.file_with_mode("attributes/acl-default/after", 0o600);
    make.dir("attributes/acl-default/after-dir");

    if privilege == Privilege::Root {
        let capable = make.file_with_mode("attributes/capable", 0o755);
        // Version 2, effective, with the right to bind low ports.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        try_xattr(&capable, "security.capability", &capability);
        let trusted = make.file("attributes/trusted", "");
        try_xattr(&trusted, "trusted.volsync", b"secret");
        let link = make.symlink("attributes/trusted-link", "trusted");
        try_xattr(&link, "trusted.volsync", b"on a link");
    }
}

fn special_files(make: &Maker, privilege: Privilege) {
    make.dir("special");
    make.special("special/fifo", FileType::Fifo, 0, 0);
    make.special("special/socket", FileType::Socket, 0, 0);
    let fifo = make.special("special/fifo-open", FileType::Fifo, 0, 0);
    make.mode(&fifo, 0o666);
    if privilege == Privilege::Root {
        make.special("special/null", FileType::CharacterDevice, 1, 3);
        make.special("special/disk", FileType::BlockDevice, 7, 0);
        make.special("special/large-numbers", FileType::CharacterDevice, 4000, 70_000);
    }
}

fn deep(make: &Maker) {
    let mut name = "deep".to_owned();
    for level in 0..320 {
        name.push_str(if level % 7 == 0 { "/level" } else { "/d" });
    }
    make.dir(&name);
    make.file(format!("{name}/bottom"), "at the bottom");
}

fn owners(make: &Maker) {
    make.dir("owners");
    for (uid, gid) in [(1, 1), (1000, 1000), (65_534, 65_534), (4_000_000_000, 3_999_999_999)] {
        let file = make.file(format!("owners/file-{uid}"), "someone's");
        let dir = make.dir(format!("owners/dir-{uid}"));
        let link = make.symlink(format!("owners/link-{uid}"), "nowhere");
        let fifo = make.special(format!("owners/fifo-{uid}"), FileType::Fifo, 0, 0);
        for path in [&file, &dir, &link, &fifo] {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        }
        make.mode(&file, 0o6751);
        make.mode(&dir, 0o3770);
    }
}

fn times(make: &Maker) {
    make.dir("times");
    for (name, seconds, nanoseconds) in [
        ("whole second", 1_500_000_000, 0),
        ("nanoseconds", 1_500_000_000, 123_456_789),
        ("last nanosecond", 1_500_000_000, 999_999_999),
        ("epoch", 0, 0),
        ("before 1970", -1_000_000_000, 987_654_321),
        ("just before 1970", -1, 999_999_999),
        ("after 2038", 4_294_967_296, 1),
        ("year 2200", 7_258_118_400, 5),
        ("tomorrow", 1_900_000_000, 7),
    ] {
        let file = make.file(format!("times/{name}"), name);
        make.mtime(&file, seconds, nanoseconds);
        make.file(format!("times/empty {name}"), "");
        make.mtime(&make.path(format!("times/empty {name}")), seconds, nanoseconds);
        let dir = make.dir(format!("times/dir {name}"));
        make.file(format!("times/dir {name}/inside"), "inside");
        make.mtime(&dir, seconds, nanoseconds);
        let link = make.symlink(format!("times/link {name}"), "target");
        make.mtime(&link, seconds, nanoseconds);
    }
}

/// What an ordinary user cannot read: a file and a directory without permissions, the latter with
/// something inside, beside a file and a directory that can be read.
pub fn unreadable_cases(dir: &Path, privilege: Privilege) {
    let make = Maker::new(dir, privilege);
    make.file("readable", "anyone may");
    make.dir("open");
    make.file("open/readable", "anyone may");
    make.file_with_mode("closed-file", 0o000);
    let closed = make.dir("closed-dir");
    make.file("closed-dir/inside", "never seen");
    make.mode(&closed, 0o000);
}
