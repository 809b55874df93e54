//! What each side of a session may say when: both state machines, without I/O.
//!
//! ```text
//!   source                                   destination
//!   Hello ----------------------------------> Hello
//!   Listing* (as far as credit reaches) ----> compare
//!            <---------------- Credit, Want*, Signature*
//!   Small, Begin Data* Copies* Commit, Failed -> write
//!   End ------------------------------------> delete, finish, flush
//!            <------------------------------- Finished
//!   Bye ------------------------------------> leave
//! ```
//!
//! A peer that breaks an order, refers to a request that does not exist, or asks for more than a
//! bounded amount of memory ends the session with [`SessionError`]; nothing it says is believed
//! beyond that.

use std::collections::HashMap;

use super::message::{CopyRange, Listing, Message, SegmentSignature, Small, VERSION, Want};

/// Listings a source may send ahead of the destination's comparison.
pub const LISTING_CREDIT: u32 = 32;
/// The most requests a destination may have open.
pub const MAX_OPEN_REQUESTS: usize = 16_384;
/// The most signature segments that may wait for one file.
pub const MAX_SEGMENTS_AHEAD: u64 = 4;
/// The most delta requests that may be open at once.
pub const MAX_OPEN_DELTAS: usize = 64;

/// A peer said what it may not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The peer's protocol is another one.
    #[error("the peer speaks session protocol {0}, this side speaks {VERSION}")]
    Version(u32),
    /// A message came when it may not come.
    #[error("the peer sent {message} {when}")]
    Unexpected {
        /// The message.
        message: &'static str,
        /// Why it may not come.
        when: &'static str,
    },
    /// A message refers to a request that is not open.
    #[error("the peer sent {message} for request {id}, which is not open")]
    NoSuchRequest {
        /// The message.
        message: &'static str,
        /// The request.
        id: u64,
    },
    /// The peer asks for more than it may.
    #[error("the peer exceeds the limit of {0}")]
    Limit(&'static str),
}

fn unexpected(message: &'static str, when: &'static str) -> SessionError {
    SessionError::Unexpected { message, when }
}

/// What a destination has to do next.
#[derive(Debug)]
pub enum Arrived<T> {
    /// Nothing.
    Greeting,
    /// Compare these entries.
    Listing(Listing),
    /// Write these files; one request each, in order.
    Small(Small, Vec<T>),
    /// Open a file for the request.
    Begin {
        /// The request.
        id: u64,
        /// What was asked.
        request: T,
        /// Size of the file, in bytes.
        size: u64,
        /// Its modification time.
        mtime: volsync_mover::Time,
    },
    /// Write bytes.
    Data {
        /// The request.
        id: u64,
        /// Where.
        offset: u64,
        /// What.
        bytes: bytes::Bytes,
    },
    /// Copy from the basis.
    Copies {
        /// The request.
        id: u64,
        /// What.
        ranges: Vec<CopyRange>,
    },
    /// Verify and put in place.
    Commit {
        /// The request.
        id: u64,
        /// What the content must hash to.
        hash: [u8; 32],
    },
    /// The request cannot be served.
    Failed {
        /// The request.
        id: u64,
        /// What was asked.
        request: T,
        /// Whether a file was already begun.
        begun: bool,
        /// Whether it is merely gone.
        vanished: bool,
        /// Why.
        why: String,
    },
    /// Something of the source is missing.
    Skipped(volsync_mover::RelPath, String),
    /// The walk is complete.
    End {
        /// Entries listed.
        entries: u64,
        /// Bytes in all regular files.
        total_bytes: u64,
        /// Whether everything could be read.
        complete: bool,
    },
    /// The source has taken a signature segment of this request.
    Used(u64),
    /// The source has taken note; leave.
    Bye,
    /// The source gave up.
    Problem {
        /// Whether trying again can help.
        transient: bool,
        /// Whether it can help at once.
        at_once: bool,
        /// Its sentence.
        message: String,
        /// Its hint.
        hint: String,
    },
}

#[derive(Debug)]
enum Request<T> {
    Asked { request: T, basis: u64 },
    Receiving { size: u64, position: u64, basis: u64, request: T },
}

/// The destination's side. `T` is what it remembers of a request.
#[derive(Debug)]
pub struct DestinationSession<T> {
    greeted: bool,
    ended: bool,
    finished: bool,
    listings: u32,
    open_directory: Option<(volsync_mover::RelPath, u32, u32)>,
    requests: HashMap<u64, Request<T>>,
    next_id: u64,
}

impl<T> Default for DestinationSession<T> {
    fn default() -> Self {
        Self {
            greeted: false,
            ended: false,
            finished: false,
            listings: LISTING_CREDIT,
            open_directory: None,
            requests: HashMap::new(),
            next_id: 0,
        }
    }
}

impl<T: Clone> DestinationSession<T> {
    /// Opens requests for `files`, given with the length of the basis whose signatures will
    /// follow (0: none). Returns the first of their consecutive numbers.
    pub fn ask(&mut self, files: impl IntoIterator<Item = (T, u64)>) -> u64 {
        let first = self.next_id;
        for (request, basis) in files {
            self.requests.insert(self.next_id, Request::Asked { request, basis });
            self.next_id += 1;
        }
        first
    }

    /// What was asked with an open request.
    pub fn request(&self, id: u64) -> Option<T> {
        match self.requests.get(&id)? {
            Request::Asked { request, .. } | Request::Receiving { request, .. } => {
                Some(request.clone())
            }
        }
    }

    /// How many requests are open.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// A listing has been compared: returns whether credit should be sent, and how much.
    pub fn compared(&mut self, listings: u32) {
        self.listings += listings;
    }

    /// `Finished` has been sent.
    pub fn finished(&mut self) {
        self.finished = true;
    }

    /// Takes a message of the source.
    pub fn take(&mut self, message: Message) -> Result<Arrived<T>, SessionError> {
        let name = message.name();
        if let Message::Problem { transient, at_once, message, hint } = message {
            return Ok(Arrived::Problem { transient, at_once, message, hint });
        }
        if !self.greeted {
            let Message::Hello { version, .. } = message else {
                return Err(unexpected(name, "before Hello"));
            };
            if version != VERSION {
                return Err(SessionError::Version(version));
            }
            self.greeted = true;
            return Ok(Arrived::Greeting);
        }
        if self.finished && !matches!(message, Message::Bye) {
            return Err(unexpected(name, "after everything was finished"));
        }
        match message {
            Message::Listing(listing) => self.listing(listing).map(Arrived::Listing),
            Message::Small(small) => {
                let mut requests = Vec::with_capacity(small.files.len());
                for file in &small.files {
                    match self.requests.remove(&file.id) {
                        Some(Request::Asked { request, .. }) => requests.push(request),
                        Some(Request::Receiving { .. }) => {
                            return Err(unexpected("Small", "for a file that was begun"));
                        }
                        None => {
                            return Err(SessionError::NoSuchRequest {
                                message: "Small",
                                id: file.id,
                            });
                        }
                    }
                }
                Ok(Arrived::Small(small, requests))
            }
            Message::Begin { id, size, mtime } => match self.requests.remove(&id) {
                Some(Request::Asked { request, basis }) => {
                    let kept =
                        Request::Receiving { size, position: 0, basis, request: request.clone() };
                    self.requests.insert(id, kept);
                    Ok(Arrived::Begin { id, request, size, mtime })
                }
                Some(Request::Receiving { .. }) => Err(unexpected("Begin", "twice for one file")),
                None => Err(SessionError::NoSuchRequest { message: "Begin", id }),
            },
            Message::Data { id, offset, bytes } => {
                self.advance("Data", id, offset, bytes.len() as u64)?;
                Ok(Arrived::Data { id, offset, bytes })
            }
            Message::Copies { id, ranges } => {
                for range in &ranges {
                    let basis = self.advance("Copies", id, range.offset, range.length)?;
                    if range.from.checked_add(range.length).is_none_or(|end| end > basis) {
                        return Err(unexpected("Copies", "beyond the end of the basis file"));
                    }
                }
                Ok(Arrived::Copies { id, ranges })
            }
            Message::Commit { id, hash } => match self.requests.remove(&id) {
                Some(Request::Receiving { .. }) => Ok(Arrived::Commit { id, hash }),
                Some(Request::Asked { .. }) => {
                    Err(unexpected("Commit", "for a file that was not begun"))
                }
                None => Err(SessionError::NoSuchRequest { message: "Commit", id }),
            },
            Message::Failed { id, vanished, why } => {
                let (begun, request) = match self.requests.remove(&id) {
                    Some(Request::Asked { request, .. }) => (false, request),
                    Some(Request::Receiving { request, .. }) => (true, request),
                    None => return Err(SessionError::NoSuchRequest { message: "Failed", id }),
                };
                Ok(Arrived::Failed { id, request, begun, vanished, why })
            }
            Message::Skipped { path, why } => Ok(Arrived::Skipped(path, why)),
            Message::End { entries, total_bytes, complete } => {
                if self.ended || self.open_directory.is_some() {
                    return Err(unexpected("End", "in the middle of the tree"));
                }
                self.ended = true;
                Ok(Arrived::End { entries, total_bytes, complete })
            }
            Message::Used { id } if id < self.next_id => Ok(Arrived::Used(id)),
            Message::Used { id } => Err(SessionError::NoSuchRequest { message: "Used", id }),
            Message::Bye if self.finished => Ok(Arrived::Bye),
            Message::Bye => Err(unexpected("Bye", "before everything was finished")),
            Message::Hello { .. } => Err(unexpected("Hello", "twice")),
            Message::Problem { .. }
            | Message::Credit { .. }
            | Message::Want(_)
            | Message::Signature(_)
            | Message::Finished { .. } => Err(unexpected(name, "though it is the source")),
        }
    }

    fn listing(&mut self, listing: Listing) -> Result<Listing, SessionError> {
        if self.ended {
            return Err(unexpected("Listing", "after End"));
        }
        let Some(left) = self.listings.checked_sub(1) else {
            return Err(SessionError::Limit("listings without credit"));
        };
        self.listings = left;
        match &self.open_directory {
            None if listing.own.is_none() || listing.slice != 0 => {
                return Err(unexpected("Listing", "that does not begin its directory"));
            }
            Some(_) if listing.own.is_some() => {
                return Err(unexpected("Listing", "that begins a directory within another"));
            }
            Some((path, slice, slices))
                if (path, *slice, *slices)
                    != (&listing.directory, listing.slice, listing.slices) =>
            {
                return Err(unexpected("Listing", "of two directories at once"));
            }
            None | Some(_) => {}
        }
        let next_slice = listing.slice + u32::from(listing.last);
        self.open_directory = (next_slice < listing.slices)
            .then(|| (listing.directory.clone(), next_slice, listing.slices));
        Ok(listing)
    }

    fn advance(
        &mut self,
        message: &'static str,
        id: u64,
        offset: u64,
        length: u64,
    ) -> Result<u64, SessionError> {
        match self.requests.get_mut(&id) {
            Some(Request::Receiving { size, position, basis, .. }) => {
                let end = offset.checked_add(length).filter(|end| end <= size);
                match end {
                    Some(end) if offset >= *position => {
                        *position = end;
                        Ok(*basis)
                    }
                    Some(_) => Err(unexpected(message, "that goes backwards in its file")),
                    None => Err(unexpected(message, "beyond the end of its file")),
                }
            }
            Some(Request::Asked { .. }) => {
                Err(unexpected(message, "for a file that was not begun"))
            }
            None => Err(SessionError::NoSuchRequest { message, id }),
        }
    }
}

/// What a source has to do next.
#[derive(Debug)]
pub enum Asked {
    /// Nothing.
    Greeting,
    /// More listings may be sent.
    Credit {
        /// How many.
        listings: u32,
        /// Entries the destination has compared.
        files_compared: u64,
        /// Bytes that need no more work.
        bytes_done: u64,
    },
    /// Send these files.
    Want(Want),
    /// A piece of a basis.
    Signature(SegmentSignature),
    /// Everything is in place.
    Finished {
        /// The destination's report, as JSON.
        report: String,
    },
    /// The destination gave up.
    Problem {
        /// Whether trying again can help.
        transient: bool,
        /// Whether it can help at once.
        at_once: bool,
        /// Its sentence.
        message: String,
        /// Its hint.
        hint: String,
    },
}

#[derive(Debug, Default)]
struct OpenDelta {
    segments: u64,
    taken: u64,
    complete: bool,
}

/// The source's side.
#[derive(Debug, Default)]
pub struct SourceSession {
    greeted: bool,
    ended: bool,
    finished: bool,
    listings_out: u32,
    next_id: u64,
    open: usize,
    deltas: HashMap<u64, OpenDelta>,
}

impl SourceSession {
    /// A listing has been sent.
    pub fn listed(&mut self) {
        self.listings_out += 1;
    }

    /// `End` has been sent.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// A request has been answered for good.
    pub fn answered(&mut self, id: u64) {
        self.open = self.open.saturating_sub(1);
        self.deltas.remove(&id);
    }

    /// A signature segment has been used.
    pub fn used_segment(&mut self, id: u64) {
        if let Some(delta) = self.deltas.get_mut(&id) {
            delta.taken += 1;
        }
    }

    /// Takes a message of the destination.
    pub fn take(&mut self, message: Message) -> Result<Asked, SessionError> {
        let name = message.name();
        if let Message::Problem { transient, at_once, message, hint } = message {
            return Ok(Asked::Problem { transient, at_once, message, hint });
        }
        if !self.greeted {
            let Message::Hello { version, .. } = message else {
                return Err(unexpected(name, "before Hello"));
            };
            if version != VERSION {
                return Err(SessionError::Version(version));
            }
            self.greeted = true;
            return Ok(Asked::Greeting);
        }
        if self.finished {
            return Err(unexpected(name, "after Finished"));
        }
        match message {
            Message::Credit { listings, files_compared, bytes_done } => {
                let Some(out) = self.listings_out.checked_sub(listings) else {
                    return Err(unexpected("Credit", "for listings it was not sent"));
                };
                self.listings_out = out;
                Ok(Asked::Credit { listings, files_compared, bytes_done })
            }
            Message::Want(want) => {
                if want.first_id != self.next_id {
                    return Err(unexpected("Want", "out of order"));
                }
                self.next_id += want.files.len() as u64;
                self.open += want.files.len();
                for (at, (_, basis)) in want.files.iter().enumerate() {
                    if *basis > 0 {
                        self.deltas.insert(want.first_id + at as u64, OpenDelta::default());
                    }
                }
                if self.open > MAX_OPEN_REQUESTS || self.deltas.len() > MAX_OPEN_DELTAS {
                    return Err(SessionError::Limit("open requests"));
                }
                Ok(Asked::Want(want))
            }
            Message::Signature(signature) => {
                // A delta that was answered (the file vanished) may still be receiving signatures.
                if let Some(delta) = self.deltas.get_mut(&signature.id) {
                    if delta.complete || signature.segment != delta.segments {
                        return Err(unexpected("Signature", "out of order"));
                    }
                    delta.segments += 1;
                    delta.complete = signature.last;
                    if delta.segments - delta.taken > MAX_SEGMENTS_AHEAD {
                        return Err(SessionError::Limit("signatures ahead of their file"));
                    }
                } else if signature.id >= self.next_id {
                    return Err(SessionError::NoSuchRequest {
                        message: "Signature",
                        id: signature.id,
                    });
                }
                Ok(Asked::Signature(signature))
            }
            Message::Finished { report } => {
                if !self.ended || self.open > 0 {
                    return Err(unexpected("Finished", "before everything was sent"));
                }
                self.finished = true;
                Ok(Asked::Finished { report })
            }
            Message::Hello { .. } => Err(unexpected("Hello", "twice")),
            Message::Problem { .. }
            | Message::Listing(_)
            | Message::Small(_)
            | Message::Begin { .. }
            | Message::Data { .. }
            | Message::Copies { .. }
            | Message::Commit { .. }
            | Message::Failed { .. }
            | Message::Skipped { .. }
            | Message::End { .. }
            | Message::Used { .. }
            | Message::Bye => Err(unexpected(name, "though it is the destination")),
        }
    }
}

#[cfg(test)]
mod tests;
