//! A stream cut into the parts that a large object is uploaded in, or gathered where there are none.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use crate::error::Kind;
use crate::http::Trouble;

/// The first parts of a stream are this long; later ones are longer, so that the 10 000 parts that
/// S3 and Google allow make 880 GB. Azure allows 50 000.
const PART_SIZE: usize = 16 << 20;

/// After so many parts they grow by [`PART_SIZE`].
const PARTS_OF_A_SIZE: usize = 1000;

/// How many parts are on their way at once; each is held in memory.
pub(crate) const PARTS_AT_ONCE: usize = 4;

/// The longest stream that is gathered, in bytes; it is held in memory. Packs have 128 MiB at most.
const LONGEST_WHOLE: usize = 256 << 20;

/// Cuts a stream into parts with numbers from 1, at least one.
pub(crate) fn parts(
    content: BoxStream<'_, io::Result<Bytes>>,
) -> impl Stream<Item = io::Result<(i32, Bytes)>> + Send {
    // What is left of the last chunk, how many parts there were, and whether there is more.
    let start = (content, BytesMut::new(), 0_usize, true);
    stream::try_unfold(start, |(mut content, mut gathered, count, mut more)| async move {
        let size = PART_SIZE * (1 + count / PARTS_OF_A_SIZE);
        while more && gathered.len() < size {
            match content.next().await.transpose()? {
                Some(chunk) => gathered.extend_from_slice(&chunk),
                None => more = false,
            }
        }
        if gathered.is_empty() && count > 0 {
            return Ok(None);
        }
        let part = gathered.split_to(size.min(gathered.len())).freeze();
        let number = i32::try_from(count + 1).map_err(io::Error::other)?;
        Ok(Some(((number, part), (content, gathered, count + 1, more))))
    })
}

/// A stream as a whole, for a protocol that has no parts.
pub(crate) async fn whole(mut content: BoxStream<'_, io::Result<Bytes>>) -> Result<Bytes, Trouble> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(|error| Trouble::new(Kind::Content, error.to_string()))?;
        whole.extend_from_slice(&chunk);
        if whole.len() > LONGEST_WHOLE {
            let reason = format!("a stream of more than {LONGEST_WHOLE} bytes has no length");
            return Err(Trouble::new(Kind::Invalid, reason));
        }
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn a_stream_is_cut_into_parts_that_are_all_there() {
        let chunk = |byte: u8| Ok(Bytes::from(vec![byte; 5 << 20]));
        let content = stream::iter((0..8).map(chunk)).boxed();
        let parts: Vec<(i32, Bytes)> = parts(content).try_collect().await.unwrap();
        let lengths: Vec<usize> = parts.iter().map(|(_, part)| part.len()).collect();
        assert_eq!(lengths, [PART_SIZE, PART_SIZE, (40 << 20) - 2 * PART_SIZE]);
        let whole: Vec<u8> = parts.iter().flat_map(|(_, part)| part.to_vec()).collect();
        assert!(
            whole.chunks(5 << 20).zip(0..8).all(|(chunk, byte)| chunk.iter().all(|b| *b == byte))
        );
        let empty: Vec<(i32, Bytes)> =
            super::parts(stream::empty().boxed()).try_collect().await.unwrap();
        assert_eq!(empty, [(1, Bytes::new())]);
    }
}
