//! Lists of records for a guest, in one block of its memory.
//!
//! By the canonical ABI a host asks the guest for memory once for each text and each list: 24 times for the
//! full record of a worker. To enter WebAssembly so often takes longer than everything else in a call. A
//! guest that never frees memory cannot tell one block from many, so such a guest gets one. The embedded
//! plugins are such guests (`plugins/largest-gpu/src/bump.rs`); all others get their memory piece by piece.
//!
//! The engine hides the traits that are implemented here, because they may change with its version. The
//! compiler finds such a change, and a test compares both ways.

use super::bindings::queueing::{RunningJob, WaitingJob};
use super::bindings::types::{
    Gpu, ImageSize, Job, JobType, Property, Requirements, Value, Worker, WorkerStatus,
};
use std::mem::MaybeUninit;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext,
};
use wasmtime::component::{ComponentType, Lower};

/// How lists of records reach a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// With memory of its own for each text and each list, as the canonical ABI says.
    PieceByPiece,
    /// In one block. Only for guests that never free memory.
    InOneBlock,
}

/// A list of records, as an argument of a call.
pub(crate) struct Records<'a, T> {
    records: &'a [T],
    lists: Lists,
}

impl<'a, T: Packed> Records<'a, T> {
    pub(crate) fn new(records: &'a [T], lists: Lists) -> Self {
        Self { records, lists }
    }

    /// Copies the records into the guest. Returns where they are.
    fn store<S>(&self, cx: &mut LowerContext<'_, S>) -> wasmtime::Result<usize> {
        const LARGEST_ALIGNMENT: u32 = 8;
        let bytes = extent(self.records);
        let place = cx.realloc(0, 0, LARGEST_ALIGNMENT, bytes)?;
        let mut block =
            Block { base: place, memory: &mut cx.as_slice_mut()[place..place + bytes], next: 0 };
        pack(self.records, &mut block);
        Ok(place)
    }
}

// SAFETY: everything is that of a slice, which this is to the engine.
#[expect(unsafe_code, reason = "the engine's trait is unsafe")]
unsafe impl<T: Packed> ComponentType for Records<'_, T> {
    type Lower = <[T] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <[T] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[T] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: writes only into the guest's memory, with its bounds checked.
#[expect(unsafe_code, reason = "the engine's trait is unsafe")]
unsafe impl<T: Packed> Lower for Records<'_, T> {
    fn linear_lower_to_flat<S>(
        &self,
        cx: &mut LowerContext<'_, S>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        // Only functions with few arguments get them this way.
        self.records.linear_lower_to_flat(cx, ty, dst)
    }

    fn linear_lower_to_memory<S>(
        &self,
        cx: &mut LowerContext<'_, S>,
        ty: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        if self.lists == Lists::PieceByPiece {
            return self.records.linear_lower_to_memory(cx, ty, offset);
        }
        let place = self.store(cx)?;
        *cx.get(offset) = word(place);
        *cx.get(offset + 4) = word(self.records.len());
        Ok(())
    }
}

/// A value in the form that it has in a guest's memory.
pub(crate) trait Packed: Lower {
    /// How many bytes its texts and lists take at most.
    fn extent(&self) -> usize;

    /// Writes it at `at`, and its texts and lists behind everything that is there already.
    fn pack(&self, block: &mut Block<'_>, at: usize);
}

/// The block that is being filled. Places count from its beginning.
pub(crate) struct Block<'m> {
    /// Its address in the guest.
    base: usize,
    memory: &'m mut [u8],
    /// Where it is free.
    next: usize,
}

impl Block<'_> {
    fn take(&mut self, align: u32, bytes: usize) -> usize {
        let place = self.next.next_multiple_of(align as usize);
        self.next = place + bytes;
        place
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes where a text or list is, and its length.
    fn write_span(&mut self, at: usize, place: usize, len: usize) {
        self.write(at, &word(self.base + place));
        self.write(at + 4, &word(len));
    }

    /// Writes a case of the variant `V`. Returns the place of what belongs to it.
    fn write_case<V: ComponentType>(&mut self, at: usize, case: u8) -> usize {
        self.write(at, &[case]);
        // The number of the case takes one byte, and the rest of the variant has the strictest alignment in it.
        at + V::ALIGN32 as usize
    }
}

/// An address or a length in a memory of 32 bits. The guest has granted memory for it, so it fits.
fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

/// As for [`Packed::extent`]: how many bytes a list takes at most.
fn extent<T: Packed>(list: &[T]) -> usize {
    let padding = T::ALIGN32 as usize - 1;
    padding + list.len() * T::SIZE32 + list.iter().map(T::extent).sum::<usize>()
}

/// Writes a list. Returns its place.
fn pack<T: Packed>(list: &[T], block: &mut Block<'_>) -> usize {
    let place = block.take(T::ALIGN32, list.len() * T::SIZE32);
    for (item, at) in list.iter().zip((place..).step_by(T::SIZE32)) {
        item.pack(block, at);
    }
    place
}

impl<T: Packed> Packed for Vec<T> {
    fn extent(&self) -> usize {
        extent(self)
    }

    fn pack(&self, block: &mut Block<'_>, at: usize) {
        let place = pack(self, block);
        block.write_span(at, place, self.len());
    }
}

impl Packed for String {
    fn extent(&self) -> usize {
        self.len()
    }

    fn pack(&self, block: &mut Block<'_>, at: usize) {
        let place = block.take(1, self.len());
        block.write(place, self.as_bytes());
        block.write_span(at, place, self.len());
    }
}

impl<T: Packed> Packed for Option<T> {
    fn extent(&self) -> usize {
        self.as_ref().map_or(0, T::extent)
    }

    fn pack(&self, block: &mut Block<'_>, at: usize) {
        let inside = block.write_case::<Self>(at, self.is_some().into());
        if let Some(value) = self {
            value.pack(block, inside);
        }
    }
}

/// Numbers and flags: their bytes, the lowest first.
macro_rules! plain {
    ($($number:ty: $bytes:expr),+) => {$(
        impl Packed for $number {
            fn extent(&self) -> usize {
                0
            }

            fn pack(&self, block: &mut Block<'_>, at: usize) {
                let bytes: fn(Self) -> [u8; size_of::<Self>()] = $bytes;
                block.write(at, &bytes(*self));
            }
        }
    )+};
}

plain!(bool: |flag| [flag.into()], u32: u32::to_le_bytes, u64: u64::to_le_bytes, i64: i64::to_le_bytes, f64: f64::to_le_bytes);

/// Records: their fields in the order of the contract.
macro_rules! records {
    ($($record:ident { $($field:ident),+ })+) => {$(
        impl Packed for $record {
            fn extent(&self) -> usize {
                let Self { $($field),+ } = self;
                0 $(+ $field.extent())+
            }

            fn pack(&self, block: &mut Block<'_>, at: usize) {
                let Self { $($field),+ } = self;
                let mut end = at;
                $(pack_field($field, block, &mut end);)+
            }
        }
    )+};
}

/// Writes the field behind the one that ends at `end`, and moves that.
fn pack_field<T: Packed>(field: &T, block: &mut Block<'_>, end: &mut usize) {
    let at = end.next_multiple_of(T::ALIGN32 as usize);
    *end = at + T::SIZE32;
    field.pack(block, at);
}

records! {
    Property { key, value }
    Gpu { model, memory_mib, memory_free_mib, utilization, taken, properties }
    Worker {
        peer_id, hostname, status, gpus, driver_version, cuda_version, sleap_version, slots, slots_free, active_jobs,
        job_types, models, tags, properties
    }
    ImageSize { height, width, channels }
    Requirements { min_gpu_memory_mib, properties }
    Job {
        job_type, model_types, epochs, batch_size, frame_count, image, package_bytes, requirements, user, properties
    }
    RunningJob { id, user, job, ran_s, left_s, slot, properties }
    WaitingJob { id, user, job, waited_s, takes_s, fitting_slots, properties }
}

/// Variants: their cases in the order of the contract, each with what belongs to it.
macro_rules! variants {
    ($($variant:ident { $($number:literal: $case:ident $(($inner:ident))?),+ })+) => {$(
        impl Packed for $variant {
            fn extent(&self) -> usize {
                match self { $(Self::$case $(($inner))? => 0 $(+ $inner.extent())?),+ }
            }

            fn pack(&self, block: &mut Block<'_>, at: usize) {
                match self {
                    $(Self::$case $(($inner))? => {
                        let _inside = block.write_case::<Self>(at, $number);
                        $($inner.pack(block, _inside);)?
                    })+
                }
            }
        }
    )+};
}

variants! {
    Value { 0: Text(text), 1: Number(number), 2: Integer(number), 3: Flag(flag), 4: Json(text) }
    JobType { 0: Training, 1: Inference, 2: Other(word) }
    WorkerStatus { 0: Available, 1: Reserved, 2: Busy, 3: Maintenance, 4: Other(word) }
}

#[cfg(test)]
mod tests;
