//! A disk with a gigabyte of payloads on each side, as a server sends them.

use std::thread;

use nbd_extents::wire::{Descriptor, Form, encode};

use crate::workloads::{Draw, Rng, Shape};

/// The most descriptors that qemu sends in one payload.
pub(crate) const PER_PAYLOAD: usize = 1 << 20;

/// The payloads of both sides, in order. Both sides end at the same byte.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) name: &'static str,
    pub(crate) allocation: Vec<Vec<u8>>,
    pub(crate) bitmap: Vec<Vec<u8>>,
    pub(crate) end: u64,
}

impl Disk {
    /// Draws `payloads` full payloads per side; the bitmap gets fewer descriptors, by the factor of
    /// the shape. The side that ends first is then extended to the end of the other.
    pub(crate) fn new(shape: &Shape, payloads: usize) -> Self {
        let mut allocation = Side::new(shape.allocation, 2 * shape.seed, 1);
        let mut bitmap = Side::new(shape.bitmap, 2 * shape.seed + 1, 2);
        thread::scope(|scope| {
            scope.spawn(|| (0..payloads).for_each(|_| allocation.add(PER_PAYLOAD, u64::MAX)));
            (0..payloads / shape.skew).for_each(|_| bitmap.add(PER_PAYLOAD, u64::MAX));
        });
        let end = allocation.end.max(bitmap.end);
        for side in [&mut allocation, &mut bitmap] {
            while side.end < end {
                side.add(PER_PAYLOAD, end);
            }
        }
        Self { name: shape.name, allocation: allocation.payloads, bitmap: bitmap.payloads, end }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.allocation.iter().chain(&self.bitmap).map(Vec::len).sum()
    }

    pub(crate) fn descriptors(&self) -> usize {
        self.bytes() / Form::Compact.descriptor_size()
    }
}

/// One side under construction.
struct Side {
    draw: Draw,
    rng: Rng,
    context: u32,
    drawn: usize,
    end: u64,
    payloads: Vec<Vec<u8>>,
}

impl Side {
    const fn new(draw: Draw, seed: u64, context: u32) -> Self {
        Self { draw, rng: Rng::new(seed), context, drawn: 0, end: 0, payloads: Vec::new() }
    }

    /// Adds a payload of this number of descriptors, or fewer if byte `limit` is reached.
    fn add(&mut self, descriptors: usize, limit: u64) {
        let mut list = Vec::with_capacity(descriptors);
        while list.len() < descriptors && self.end < limit {
            let (length, flags) = (self.draw)(&mut self.rng, self.drawn);
            let length = length.min(limit - self.end);
            self.drawn += 1;
            self.end += length;
            list.push(Descriptor { length, flags });
        }
        self.payloads.push(encode(Form::Compact, self.context, list).unwrap());
    }
}
