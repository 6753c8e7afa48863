//! Many short lists of numbers in two arrays.

/// Lists by index.
#[derive(Debug, Default)]
pub(super) struct Lists {
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    /// Appends a list and returns its index.
    pub(super) fn push(&mut self, items: &[u32]) -> u32 {
        self.items.extend_from_slice(items);
        self.ends.push(self.items.len() as u32);
        self.ends.len() as u32 - 1
    }

    /// Number of lists.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The list `index`.
    pub(super) fn list(&self, index: u32) -> &[u32] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.items[start..self.ends[index] as usize]
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.ends.capacity() + self.items.capacity()) * size_of::<u32>()
    }
}
