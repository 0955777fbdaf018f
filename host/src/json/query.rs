//! A set of pointers, compiled into a trie that a scanner walks while it reads.
//!
//! Equal pointers share a slot. Slots are numbered depth first, so that everything at and below a node is one range:
//! when a member comes a second time, what was found below the first is forgotten in one sweep.

use std::ops::Range;

use super::pointer::{Pointer, Token};
use super::text;

/// No node, or no slot.
pub(super) const NONE: u32 = u32::MAX;
/// The whole document.
pub(super) const ROOT: u32 = 0;

/// What a [`super::Scanner`] looks for.
#[derive(Debug)]
pub struct Query {
    nodes: Vec<Node>,
    /// Per pointer, in the order they were given.
    slots: Vec<u32>,
    slot_count: usize,
    /// A captured text longer than this is "too long"; a string is measured unescaped.
    pub(super) capture_bytes_max: usize,
    /// A raw member name longer than this matches nothing, however it is escaped.
    pub(super) name_bytes_max: usize,
}

#[derive(Debug)]
struct Node {
    parent: u32,
    /// Where a value found here is kept.
    slot: u32,
    /// The slots at and below this node.
    below: Range<u32>,
    children: Vec<(Token, u32)>,
}

impl Query {
    /// `capture_bytes_max` bounds the text kept of each value.
    pub fn new<'a>(pointers: impl IntoIterator<Item = &'a Pointer>, capture_bytes_max: usize) -> Self {
        let mut query = Self {
            nodes: vec![Node { parent: NONE, slot: NONE, below: 0..0, children: Vec::new() }],
            slots: Vec::new(),
            slot_count: 0,
            capture_bytes_max,
            name_bytes_max: 0,
        };
        let ends: Vec<u32> = pointers.into_iter().map(|pointer| query.insert(pointer)).collect();
        for &end in &ends {
            // Any number but NONE: the real ones are given below.
            query.nodes[end as usize].slot = 0;
        }
        let mut next = 0;
        query.number(ROOT, &mut next);
        query.slot_count = next as usize;
        query.slots = ends.iter().map(|&end| query.nodes[end as usize].slot).collect();
        query
    }

    pub fn pointer_count(&self) -> usize {
        self.slots.len()
    }

    fn insert(&mut self, pointer: &Pointer) -> u32 {
        let mut at = ROOT;
        for token in pointer.tokens() {
            // A name can be written with six bytes for each of its own.
            self.name_bytes_max = self.name_bytes_max.max(token.name.len() * 6);
            let known =
                self.nodes[at as usize].children.iter().find(|(child, _)| child == token).map(|(_, node)| *node);
            at = known.unwrap_or_else(|| {
                let node = self.nodes.len() as u32;
                self.nodes.push(Node { parent: at, slot: NONE, below: 0..0, children: Vec::new() });
                self.nodes[at as usize].children.push((token.clone(), node));
                node
            });
        }
        at
    }

    /// Recursion is bounded by the depth of a pointer.
    fn number(&mut self, at: u32, next: &mut u32) {
        let first = *next;
        if self.nodes[at as usize].slot != NONE {
            self.nodes[at as usize].slot = *next;
            *next += 1;
        }
        let children: Vec<u32> = self.nodes[at as usize].children.iter().map(|(_, node)| *node).collect();
        for child in children {
            self.number(child, next);
        }
        self.nodes[at as usize].below = first..*next;
    }

    /// How many pointers were given.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slot_count
    }

    /// The slot of the `pointer`th pointer.
    pub(super) fn slot_of(&self, pointer: usize) -> usize {
        self.slots[pointer] as usize
    }

    pub(super) fn slot_at(&self, node: u32) -> u32 {
        self.nodes[node as usize].slot
    }

    pub(super) fn below(&self, node: u32) -> Range<usize> {
        let below = &self.nodes[node as usize].below;
        below.start as usize..below.end as usize
    }

    pub(super) fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].parent
    }

    pub(super) fn has_children(&self, node: u32) -> bool {
        !self.nodes[node as usize].children.is_empty()
    }

    /// The child for a member's name as it stands in the document, without its quotes.
    pub(super) fn member(&self, node: u32, raw: &[u8], escaped: bool) -> u32 {
        let children = &self.nodes[node as usize].children;
        let found = if escaped {
            let name = text::unescape(raw);
            children.iter().find(|(token, _)| *token.name == *name)
        } else {
            children.iter().find(|(token, _)| token.name.as_bytes() == raw)
        };
        found.map_or(NONE, |(_, node)| *node)
    }

    pub(super) fn element(&self, node: u32, index: u64) -> u32 {
        let children = &self.nodes[node as usize].children;
        children.iter().find(|(token, _)| token.index == Some(index)).map_or(NONE, |(_, node)| *node)
    }
}
