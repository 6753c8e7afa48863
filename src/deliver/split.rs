//! Parts of a sealed batch, when a destination takes some items and refuses others.

use bytes::Bytes;

use crate::batch::{Batching, Item, Sealed};
use crate::encode::compress::{Compressor, decompress};
use crate::error::{Error, ErrorKind};

/// The uncompressed body.
///
/// # Errors
/// A body that its own codec cannot read, which is a defect.
pub(super) fn plain(batch: &Sealed) -> Result<Vec<u8>, Error> {
    decompress(batch.codec, &batch.body, batch.plain_bytes)
}

/// The bytes of item `index` in the uncompressed body.
pub(super) fn item<'a>(batch: &Sealed, index: usize, plain: &'a [u8], batching: &Batching) -> &'a [u8] {
    let start = match index.checked_sub(1).and_then(|before| batch.items.get(before)) {
        Some(before) => before.end as usize + batching.separator.len(),
        None => batching.head.len(),
    };
    let end = batch.items.get(index).map_or(start, |item| item.end as usize);
    plain.get(start..end).unwrap_or_default()
}

/// A batch of some items (indices, ascending). Its id follows from the batch's and the items, so that the
/// same split after a restart has the same id.
pub(super) fn subset(batch: &Sealed, indices: &[u32], batching: &Batching) -> Result<Sealed, Error> {
    let plain = plain(batch)?;
    let mut compressor = Compressor::new(batch.codec)?;
    let mut body = Vec::new();
    let mut plain_bytes = batching.head.len();
    let mut items = Vec::with_capacity(indices.len());
    let mut members = batch.members.clone();
    for member in &mut members {
        member.count = 0;
        member.bits.fill(0);
    }
    compressor.write(batching.head, &mut body)?;
    for (count, index) in indices.iter().map(|index| *index as usize).enumerate() {
        let Some(old) = batch.items.get(index) else {
            return Err(Error::new(ErrorKind::Unexpected, "split a batch", "an item that is not there").with("item", index));
        };
        let bytes = item(batch, index, &plain, batching);
        if count > 0 {
            compressor.write(batching.separator, &mut body)?;
            plain_bytes += batching.separator.len();
        }
        compressor.write(bytes, &mut body)?;
        plain_bytes += bytes.len();
        items.push(Item { end: plain_bytes as u32, ..*old });
        if let Some(member) = members.get_mut(old.member as usize).filter(|_| !old.is_alert) {
            member.bits[old.frame as usize / 64] |= 1 << (old.frame % 64);
            member.count += 1;
        }
    }
    compressor.write(batching.tail, &mut body)?;
    compressor.finish(&mut body)?;
    let first = indices.first().map_or(0, |index| u128::from(*index) + 1);
    Ok(Sealed {
        id: batch.id ^ (first << 96) ^ ((indices.len() as u128) << 64),
        partition: batch.partition.clone(),
        body: Bytes::from(body),
        codec: batch.codec,
        plain_bytes: plain_bytes + batching.tail.len(),
        items,
        members,
        oldest_ms: batch.oldest_ms,
        acknowledgements: batch.acknowledgements.clone(),
        peer: batch.peer,
    })
}
