//! `Node`: one entry of a directory, written byte for byte as restic writes it.

use std::borrow::Cow;

use serde::Deserialize;
use volsync_mover::{Kind, Time, Xattr};

use super::id::Id;
use super::json::{parse_base64, unquote, write_base64, write_name, write_number, write_string};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Vec<u8>,
    /// What sort of thing; `None` for sorts that a Linux volume cannot hold.
    pub kind: Option<Kind>,
    /// Permission bits, 0 to 07777.
    pub mode: u32,
    /// Modification time.
    pub mtime: Time,
    /// Access time; restic records the modification time unless told otherwise.
    pub atime: Time,
    /// Time of the last change of the inode.
    pub ctime: Time,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner where it was backed up; may be empty.
    pub user: String,
    /// Name of the group; may be empty.
    pub group: String,
    /// Inode.
    pub inode: u64,
    /// The file system it was on.
    pub device_id: u64,
    /// Size of a file in bytes, 0 for all else.
    pub size: u64,
    /// How many names the inode had; 0 for directories and pipes.
    pub links: u64,
    /// Where a symbolic link points.
    pub link_target: Vec<u8>,
    /// Extended attributes in the order they were listed.
    pub xattrs: Vec<Xattr>,
    /// Device number of a device (`st_rdev`).
    pub device: u64,
    /// The blobs of a file, in order; empty for all else.
    pub content: Vec<Id>,
    /// The tree of a directory.
    pub subtree: Option<Id>,
}

/// The bits of Go's `os.FileMode` for each sort, beside the permissions.
const fn go_type(kind: Kind) -> u32 {
    match kind {
        Kind::File => 0,
        Kind::Directory => 1 << 31,
        Kind::Symlink => 1 << 27,
        Kind::BlockDevice => 1 << 26,
        Kind::CharDevice => 1 << 26 | 1 << 21,
        Kind::Fifo => 1 << 25,
        Kind::Socket => 1 << 24,
    }
}

const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_STICKY: u32 = 1 << 20;

const fn go_mode(kind: Kind, mode: u32) -> u32 {
    let mut bits = go_type(kind) | mode & 0o777;
    if mode & 0o4000 != 0 {
        bits |= GO_SETUID;
    }
    if mode & 0o2000 != 0 {
        bits |= GO_SETGID;
    }
    if mode & 0o1000 != 0 {
        bits |= GO_STICKY;
    }
    bits
}

const fn unix_mode(bits: u32) -> u32 {
    let mut mode = bits & 0o777;
    if bits & GO_SETUID != 0 {
        mode |= 0o4000;
    }
    if bits & GO_SETGID != 0 {
        mode |= 0o2000;
    }
    if bits & GO_STICKY != 0 {
        mode |= 0o1000;
    }
    mode
}

const fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "symlink",
        Kind::BlockDevice => "dev",
        Kind::CharDevice => "chardev",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn kind_of_name(name: &str) -> Option<Kind> {
    let kinds = [
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::BlockDevice,
        Kind::CharDevice,
        Kind::Fifo,
        Kind::Socket,
    ];
    kinds.into_iter().find(|kind| type_name(*kind) == name)
}

impl Node {
    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"name":"#);
        write_name(out, &self.name);
        out.extend_from_slice(br#","type":""#);
        out.extend_from_slice(self.kind.map_or("irregular", type_name).as_bytes());
        out.push(b'"');
        let mode = self.kind.map_or(0, |kind| go_mode(kind, self.mode));
        write_field(out, br#","mode":"#, u64::from(mode));
        for (field, time) in [
            (&br#","mtime":"#[..], self.mtime),
            (br#","atime":"#, self.atime),
            (br#","ctime":"#, self.ctime),
        ] {
            out.extend_from_slice(field);
            write_time(out, time);
        }
        out.extend_from_slice(br#","uid":"#);
        write_number(out, u64::from(self.uid));
        out.extend_from_slice(br#","gid":"#);
        write_number(out, u64::from(self.gid));
        for (field, name) in [(&br#","user":"#[..], &self.user), (br#","group":"#, &self.group)] {
            if !name.is_empty() {
                out.extend_from_slice(field);
                write_string(out, name.as_bytes());
            }
        }
        write_field(out, br#","inode":"#, self.inode);
        write_field(out, br#","device_id":"#, self.device_id);
        write_field(out, br#","size":"#, self.size);
        write_field(out, br#","links":"#, self.links);
        if !self.link_target.is_empty() {
            out.extend_from_slice(br#","linktarget":"#);
            write_string(out, &self.link_target);
            if std::str::from_utf8(&self.link_target).is_err() {
                out.extend_from_slice(br#","linktarget_raw":"#);
                write_base64(out, &self.link_target);
            }
        }
        if !self.xattrs.is_empty() {
            out.extend_from_slice(br#","extended_attributes":["#);
            for (number, xattr) in self.xattrs.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(br#"{"name":"#);
                write_string(out, &xattr.name);
                out.extend_from_slice(br#","value":"#);
                write_base64(out, &xattr.value);
                out.push(b'}');
            }
            out.push(b']');
        }
        write_field(out, br#","device":"#, self.device);
        out.extend_from_slice(br#","content":"#);
        if self.kind == Some(Kind::File) {
            out.push(b'[');
            for (number, id) in self.content.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                out.push(b'"');
                id.write_hex(out);
                out.push(b'"');
            }
            out.push(b']');
        } else {
            out.extend_from_slice(b"null");
        }
        if let Some(subtree) = &self.subtree {
            out.extend_from_slice(br#","subtree":""#);
            subtree.write_hex(out);
            out.push(b'"');
        }
        out.push(b'}');
    }
}

fn write_field(out: &mut Vec<u8>, field: &[u8], number: u64) {
    if number != 0 {
        out.extend_from_slice(field);
        write_number(out, number);
    }
}

/// The first and the last second that a time of four digits of year can say.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_300_799;

/// Appends a time in RFC 3339, in UTC, with as many digits after the second as it needs. Times
/// beyond the years 0 to 9999 cannot be said and become the nearest that can.
pub(crate) fn write_time(out: &mut Vec<u8>, time: Time) {
    let seconds = time.seconds.clamp(FIRST_SECOND, LAST_SECOND);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u64);
    let (year, month, day) = civil(days);
    out.push(b'"');
    write_digits(out, year, 4);
    out.push(b'-');
    write_digits(out, month, 2);
    out.push(b'-');
    write_digits(out, day, 2);
    out.push(b'T');
    write_digits(out, second / 3600, 2);
    out.push(b':');
    write_digits(out, second / 60 % 60, 2);
    out.push(b':');
    write_digits(out, second % 60, 2);
    if time.nanoseconds != 0 {
        let (mut fraction, mut digits) = (u64::from(time.nanoseconds), 9);
        while fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        out.push(b'.');
        write_digits(out, fraction, digits);
    }
    out.extend_from_slice(b"Z\"");
}

fn write_digits(out: &mut Vec<u8>, number: u64, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(b'0' + (number / 10u64.pow(digit) % 10) as u8);
    }
}

/// Year, month and day of a day counted from 1970-01-01, years 0 to 9999.
const fn civil(days: i64) -> (u64, u64, u64) {
    // Eras of 400 years from 0000-03-01, which keeps the leap day last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year as u64, month as u64, day as u64)
}

/// The day of a date, counted from 1970-01-01.
const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Reads a time in RFC 3339 as Go writes it; `None` if it is none.
pub(crate) fn parse_time(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        bytes.get(from..to)?.iter().try_fold(0i64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    for (at, separator) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if *bytes.get(at)? != separator {
            return None;
        }
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let possible = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !possible || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut nanoseconds = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let mut unit = 100_000_000;
        while let Some(digit) = bytes.get(at).filter(|digit| digit.is_ascii_digit()) {
            nanoseconds += u32::from(digit - b'0') * unit;
            unit /= 10;
            at += 1;
        }
    }
    let offset = match *bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && *bytes.get(at + 3)? == b':' => {
            let offset = number(at + 1, at + 3)? * 3600 + number(at + 4, at + 6)? * 60;
            if sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Time { seconds, nanoseconds })
}

/// A node as it is read.
#[derive(Deserialize)]
pub(super) struct NodeJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    #[serde(borrow, default)]
    mtime: Cow<'a, str>,
    #[serde(borrow, default)]
    atime: Cow<'a, str>,
    #[serde(borrow, default)]
    ctime: Cow<'a, str>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(borrow, default)]
    user: Cow<'a, str>,
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(borrow, default)]
    linktarget: Cow<'a, str>,
    #[serde(borrow)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(borrow)]
    extended_attributes: Option<Vec<XattrJson<'a>>>,
    #[serde(default)]
    device: u64,
    content: Option<Vec<Id>>,
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct XattrJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
}

impl NodeJson<'_> {
    /// The node, or what is wrong with it.
    pub(super) fn into_node(self) -> Result<Node, &'static str> {
        let time = |text: &str| match text {
            "" => Ok(Time::default()),
            text => parse_time(text).ok_or("a time is malformed"),
        };
        let base64 = |text: &str| parse_base64(text).ok_or("Base64 is malformed");
        let mut xattrs = Vec::new();
        for xattr in self.extended_attributes.unwrap_or_default() {
            let value = base64(xattr.value.as_deref().unwrap_or_default())?;
            xattrs.push(Xattr { name: xattr.name.as_bytes().to_vec(), value });
        }
        Ok(Node {
            name: unquote(&self.name).ok_or("a name is malformed")?,
            kind: kind_of_name(&self.r#type),
            mode: unix_mode(self.mode),
            mtime: time(&self.mtime)?,
            atime: time(&self.atime)?,
            ctime: time(&self.ctime)?,
            uid: self.uid,
            gid: self.gid,
            user: self.user.into_owned(),
            group: self.group.into_owned(),
            inode: self.inode,
            device_id: self.device_id,
            size: self.size,
            links: self.links,
            link_target: match self.linktarget_raw {
                Some(raw) => base64(&raw)?,
                None => self.linktarget.into_owned().into_bytes(),
            },
            xattrs,
            device: self.device,
            content: self.content.unwrap_or_default(),
            subtree: self.subtree,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        parse_time(text).unwrap()
    }

    #[test]
    fn times_are_written_as_go_does_and_come_back() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T23:59:59.000000001Z", 1_709_251_199, 1),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
            ("0000-01-01T00:00:00Z", FIRST_SECOND, 0),
            ("9999-12-31T23:59:59Z", LAST_SECOND, 0),
        ] {
            let expected = Time { seconds, nanoseconds };
            assert_eq!(time(text), expected);
            let mut out = Vec::new();
            write_time(&mut out, expected);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{text}\""));
        }
        assert_eq!(time("2024-01-01T01:30:00+01:30"), time("2024-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00+1",
            "2024-01-01T24:00:00Z",
            "+024-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn modes_come_back_with_their_special_bits() {
        for mode in [0, 0o644, 0o4755, 0o2755, 0o1777, 0o7777] {
            assert_eq!(unix_mode(go_mode(Kind::Directory, mode)), mode);
        }
        assert_eq!(go_mode(Kind::Directory, 0o755), 2_147_484_141);
    }
}
