//! Chains: AES-CBC over runs of blocks, several independent chains side by side.
//!
//! A block of a chain needs the one before it, so one chain keeps a core waiting for most of the time that an AES round
//! takes. Chains that do not need each other (subsamples of `cbcs`, whole segments) are advanced in step instead.

use aes::Aes128;
use aes::cipher::array::Array;
use aes::cipher::{Block, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, IvState};

use super::Pattern;

/// Chains that are advanced in step: what hides the latency of an AES block on today's cores.
const LANE_COUNT: usize = 8;

/// Bytes of an AES block.
pub(super) const BLOCK_SIZE: usize = 16;

type AesBlock = Block<Aes128>;

/// A run of whole blocks to encrypt, from an initialisation vector of its own.
pub(super) struct Chain<'b> {
    pub(super) iv: [u8; BLOCK_SIZE],
    pub(super) blocks: &'b mut [[u8; BLOCK_SIZE]],
}

/// The blocks of `pattern` that are encrypted, in runs. [`Pattern::NONE`] is one run of all blocks.
pub(super) fn runs(pattern: Pattern, blocks: &mut [[u8; BLOCK_SIZE]]) -> impl Iterator<Item = &mut [[u8; BLOCK_SIZE]]> {
    let crypt = usize::from(pattern.crypt);
    let period = if pattern == Pattern::NONE {
        blocks.len().max(1)
    } else {
        (crypt + usize::from(pattern.skip)).max(1)
    };
    blocks.chunks_mut(period).filter_map(move |chunk| {
        let count = if pattern == Pattern::NONE { chunk.len() } else { crypt };
        let count = count.min(chunk.len());
        chunk.get_mut(..count)
    })
}

/// Encrypts the next blocks of one chain; `chain` is the last block of ciphertext, at first the initialisation vector.
pub(super) fn encrypt(aes: &Aes128, chain: &mut [u8; BLOCK_SIZE], blocks: &mut [[u8; BLOCK_SIZE]]) {
    let mut cbc = cbc::Encryptor::inner_iv_init(aes, &Array(*chain));
    cbc.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    *chain = cbc.iv_state().0;
}

/// Undoes [`encrypt`].
pub(super) fn decrypt(aes: &Aes128, chain: &mut [u8; BLOCK_SIZE], blocks: &mut [[u8; BLOCK_SIZE]]) {
    let mut cbc = cbc::Decryptor::inner_iv_init(aes, &Array(*chain));
    cbc.decrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    *chain = cbc.iv_state().0;
}

/// Encrypts chains, some in step. The bytes are those of [`encrypt`] over [`runs`], chain by chain.
pub(super) fn encrypt_many<'b>(aes: &Aes128, pattern: Pattern, chains: impl IntoIterator<Item = Chain<'b>>) {
    let mut waiting = chains.into_iter().map(|chain| Lane {
        state: chain.iv.into(),
        blocks: chain.blocks.iter_mut(),
        run_left: usize::from(pattern.crypt),
    });
    let mut lanes: Vec<Lane<'b>> = Vec::with_capacity(LANE_COUNT);
    let mut states = [AesBlock::default(); LANE_COUNT];
    loop {
        // One block of each lane; a lane that has ended gives its place to a chain that waits.
        let mut targets: [Option<&mut [u8; BLOCK_SIZE]>; LANE_COUNT] = Default::default();
        let mut count = 0;
        while let (Some(state), Some(target)) = (states.get_mut(count), targets.get_mut(count)) {
            if count == lanes.len() {
                match waiting.next() {
                    Some(lane) => lanes.push(lane),
                    None => break,
                }
            }
            let Some(lane) = lanes.get_mut(count) else { break };
            match lane.next(pattern) {
                Some(block) => {
                    for ((out, chained), clear) in state.iter_mut().zip(&lane.state).zip(block.iter()) {
                        *out = chained ^ clear;
                    }
                    *target = Some(block);
                    count += 1;
                }
                None => {
                    lanes.swap_remove(count);
                }
            }
        }
        let Some(ready) = states.get_mut(..count).filter(|ready| !ready.is_empty()) else {
            return;
        };
        aes.encrypt_blocks(ready);
        for ((lane, target), state) in lanes.iter_mut().zip(targets).zip(ready) {
            lane.state = *state;
            if let Some(target) = target {
                *target = state.0;
            }
        }
    }
}

/// A chain under way.
struct Lane<'b> {
    state: AesBlock,
    blocks: std::slice::IterMut<'b, [u8; BLOCK_SIZE]>,
    /// Blocks until the pattern's next skip.
    run_left: usize,
}

impl<'b> Lane<'b> {
    #[inline]
    fn next(&mut self, pattern: Pattern) -> Option<&'b mut [u8; BLOCK_SIZE]> {
        if pattern == Pattern::NONE {
            return self.blocks.next();
        }
        match self.run_left.checked_sub(1) {
            Some(left) => {
                self.run_left = left;
                self.blocks.next()
            }
            None => {
                self.run_left = usize::from(pattern.crypt).checked_sub(1)?;
                self.blocks.nth(usize::from(pattern.skip))
            }
        }
    }
}
