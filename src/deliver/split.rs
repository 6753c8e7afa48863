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

/// An id that no other batch has: names of objects follow from it. Mixed by SplitMix64's finaliser.
fn derived(id: u128, indices: &[u32]) -> u128 {
    let mix = |state: u64, value: u64| {
        let mut mixed = (state ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let start = mix(mix(0, (id >> 64) as u64), id as u64);
    let high = indices.iter().fold(start, |state, index| mix(state, u64::from(*index)));
    u128::from(high) << 64 | u128::from(mix(high, id as u64))
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
        member.alerts.clear();
    }
    // The alerts of a member stand in the order of their items.
    let mut alerts: Vec<_> = batch.members.iter().map(|member| member.alerts.iter()).collect();
    let keys: Vec<_> = batch.items.iter().map(|item| alerts.get_mut(item.member as usize).filter(|_| item.is_alert)?.next()).collect();
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
        if let Some(member) = members.get_mut(old.member as usize) {
            match keys.get(index).copied().flatten() {
                Some(alert) => member.alerts.push(*alert),
                None if old.is_alert => {}
                None => member.insert(old.frame),
            }
        }
    }
    compressor.write(batching.tail, &mut body)?;
    compressor.finish(&mut body)?;
    let alerts_in = items.iter().filter(|item| item.is_alert).count() as u64;
    Ok(Sealed {
        id: derived(batch.id, indices),
        manifest: batch.manifest,
        plan: batch.plan,
        partition: batch.partition.clone(),
        body: Bytes::from(body),
        codec: batch.codec,
        plain_bytes: plain_bytes + batching.tail.len(),
        items,
        members,
        oldest_ms: batch.oldest_ms,
        acknowledgements: batch.acknowledgements.clone(),
        arrivals: batch.arrivals.clone(),
        waiting: batch.waiting.part(indices.len() as u64 - alerts_in, alerts_in),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_ids_of_their_own_and_the_same_ones_again() {
        let mut seen = std::collections::HashSet::new();
        for id in [7u128, 8, 7 + (1 << 64)] {
            for start in 0..20 {
                for end in start + 1..40u32 {
                    let indices: Vec<u32> = (start..end).collect();
                    let derived = derived(id, &indices);
                    assert_eq!(derived, super::derived(id, &indices));
                    assert!(seen.insert(derived) && derived as u64 != id as u64);
                }
            }
        }
    }
}
