//! Chains: AES-CBC over runs of blocks, several independent chains side by side.
//!
//! A block of a chain needs the one before it, so one chain keeps a core waiting for most of the time that an AES round
//! takes. Chains that do not need each other (subsamples of `cbcs`, whole segments) are advanced in step instead.

use aes::Aes128;
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::{
    Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockModeDecrypt, BlockSizeUser,
    InnerIvInit, IvState, ParBlocks,
};

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
    let (iv, last) = (*chain, blocks.len().checked_sub(1));
    encrypt_many(
        aes,
        Pattern::NONE,
        [Chain {
            iv,
            blocks: &mut *blocks,
        }],
    );
    if let Some(last) = last.and_then(|last| blocks.get(last)) {
        *chain = *last;
    }
}

/// Undoes [`encrypt`].
pub(super) fn decrypt(aes: &Aes128, chain: &mut [u8; BLOCK_SIZE], blocks: &mut [[u8; BLOCK_SIZE]]) {
    let mut cbc = cbc::Decryptor::inner_iv_init(aes, &Array(*chain));
    cbc.decrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    *chain = cbc.iv_state().0;
}

/// Encrypts chains, some in step. The bytes are those of [`encrypt`] over [`runs`], chain by chain.
pub(super) fn encrypt_many<'b>(aes: &Aes128, pattern: Pattern, chains: impl IntoIterator<Item = Chain<'b>>) {
    let (chains, crypt) = (chains.into_iter(), usize::from(pattern.crypt));
    let period = (crypt + usize::from(pattern.skip)).max(1);
    // Patterns that the compiler knows need no test of a bound for each block.
    match pattern {
        Pattern::NONE => aes.encrypt_with_backend(Many::<_, 1>::new(chains, 1, 1)),
        Pattern { crypt: 1, skip: 9 } => aes.encrypt_with_backend(Many::<_, 10>::new(chains, crypt, period)),
        _ => aes.encrypt_with_backend(Many::<_, 0>::new(chains, crypt, period)),
    }
}

/// The work of [`encrypt_many`], in the shape that lets a cipher's backend be compiled into its loop: a call for every
/// few blocks would cost as much as the blocks. One block of every `PERIOD` is encrypted, or what the fields say where that
/// is 0.
struct Many<I, const PERIOD: usize> {
    chains: I,
    /// Blocks that are encrypted of each `period`.
    crypt: usize,
    period: usize,
}

impl<I, const PERIOD: usize> Many<I, PERIOD> {
    fn new(chains: I, crypt: usize, period: usize) -> Self {
        let (crypt, period) = if PERIOD == 0 { (crypt, period) } else { (1, PERIOD) };
        Many { chains, crypt, period }
    }

    #[inline(always)]
    fn crypt(&self) -> usize {
        if PERIOD == 0 { self.crypt } else { 1 }
    }

    #[inline(always)]
    fn period(&self) -> usize {
        if PERIOD == 0 { self.period } else { PERIOD }
    }
}

/// A chain under way.
#[derive(Default)]
struct Lane<'b> {
    state: AesBlock,
    blocks: &'b mut [[u8; BLOCK_SIZE]],
    /// Whole periods in `blocks`.
    periods: usize,
}

impl<I, const PERIOD: usize> BlockSizeUser for Many<I, PERIOD> {
    type BlockSize = U16;
}

impl<'b, I: Iterator<Item = Chain<'b>>, const PERIOD: usize> BlockCipherEncClosure for Many<I, PERIOD> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(mut self, backend: &B) {
        let mut lanes: [Lane<'b>; LANE_COUNT] = Default::default();
        let mut count = 0;
        loop {
            while let Some(lane) = lanes.get_mut(count)
                && let Some(Chain { iv, blocks }) = self.chains.next()
            {
                *lane = Lane {
                    state: iv.into(),
                    periods: blocks.len() / self.period(),
                    blocks,
                };
                count += 1;
            }
            let active = lanes.get_mut(..count).unwrap_or_default();
            let Some(steps) = active.iter().map(|lane| lane.periods).min() else {
                return;
            };
            // As many as there are, in the shapes that the compiler unrolls.
            if let Ok(lanes) = <&mut [Lane<'b>; LANE_COUNT]>::try_from(&mut *active) {
                self.advance(backend, lanes, steps);
            } else {
                let (fours, rest) = active.as_chunks_mut::<4>();
                let (twos, one) = rest.as_chunks_mut::<2>();
                let (ones, _) = one.as_chunks_mut::<1>();
                fours.iter_mut().for_each(|lanes| self.advance(backend, lanes, steps));
                twos.iter_mut().for_each(|lanes| self.advance(backend, lanes, steps));
                ones.iter_mut().for_each(|lanes| self.advance(backend, lanes, steps));
            }
            let mut index = 0;
            while let Some(lane) = lanes.get_mut(..count).and_then(|active| active.get_mut(index)) {
                if lane.periods > 0 {
                    index += 1;
                    continue;
                }
                for block in lane.blocks.iter_mut().take(self.crypt()) {
                    chain_block(backend, &mut lane.state, block);
                }
                count -= 1;
                lanes.swap(index, count);
            }
        }
    }
}

impl<I, const PERIOD: usize> Many<I, PERIOD> {
    /// `steps` periods of every lane.
    #[inline(always)]
    fn advance<B: BlockCipherEncBackend<BlockSize = U16>, const N: usize>(
        &self,
        backend: &B,
        lanes: &mut [Lane<'_>; N],
        steps: usize,
    ) {
        let mut states = lanes.each_ref().map(|lane| lane.state);
        let (crypt, period) = (self.crypt(), self.period());
        let size = steps * period;
        let mut parts = lanes
            .each_mut()
            .map(|lane| lane.blocks.split_off_mut(..size).unwrap_or_default());
        // Once for all, instead of for each block.
        assert!(parts.iter().all(|part| part.len() == size), "a lane has its periods");
        let mut first = 0;
        while first < size {
            for position in first..first + crypt {
                for (state, part) in states.iter_mut().zip(&parts) {
                    if let Some(clear) = part.get(position) {
                        xor(state, clear);
                    }
                }
                encrypt_states(backend, &mut states);
                for (state, part) in states.iter().zip(&mut parts) {
                    if let Some(target) = part.get_mut(position) {
                        *target = state.0;
                    }
                }
            }
            first += period;
        }
        for (lane, state) in lanes.iter_mut().zip(states) {
            lane.state = state;
            lane.periods -= steps;
        }
    }
}

#[inline(always)]
fn xor(state: &mut AesBlock, block: &[u8; BLOCK_SIZE]) {
    // As one number: byte by byte, the state would go through memory.
    state.0 = (u128::from_ne_bytes(state.0) ^ u128::from_ne_bytes(*block)).to_ne_bytes();
}

#[inline(always)]
fn chain_block<B: BlockCipherEncBackend<BlockSize = U16>>(
    backend: &B,
    state: &mut AesBlock,
    block: &mut [u8; BLOCK_SIZE],
) {
    xor(state, block);
    backend.encrypt_block_inplace(state);
    *block = state.0;
}

/// As many at once as the backend takes; where that is more than there are, one after the other: they do not depend on
/// each other, which a core sees by itself.
#[inline(always)]
fn encrypt_states<B: BlockCipherEncBackend<BlockSize = U16>, const N: usize>(backend: &B, states: &mut [AesBlock; N]) {
    let (batches, rest) = ParBlocks::<B>::slice_as_chunks_mut(states);
    for batch in batches {
        backend.encrypt_par_blocks_inplace(batch);
    }
    for state in rest {
        backend.encrypt_block_inplace(state);
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::{BlockModeEncrypt, KeyInit};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Held against the `cbc` crate, a chain at a time and a run at a time.
        #[test]
        fn chains_in_step_are_chains_one_by_one(
            sizes in prop::collection::vec(0_usize..50, 0..30),
            pattern in prop_oneof![
                Just(Pattern::NONE),
                (1_u8..=10, 0_u8..=15).prop_map(|(crypt, skip)| Pattern { crypt, skip }),
                Just(Pattern { crypt: 1, skip: 9 }),
            ],
        ) {
            let aes = Aes128::new(&Array([3; 16]));
            let clear: Vec<Vec<[u8; BLOCK_SIZE]>> = (0_u8..)
                .zip(&sizes)
                .map(|(chain, size)| (0..*size as u8).map(|block| [chain.wrapping_mul(51) ^ block; BLOCK_SIZE]).collect())
                .collect();
            let iv = |chain: usize| [chain as u8; BLOCK_SIZE];
            let mut together = clear.clone();
            let chains = together.iter_mut().enumerate().map(|(chain, blocks)| Chain { iv: iv(chain), blocks });
            encrypt_many(&aes, pattern, chains);
            for (chain, (clear, encrypted)) in clear.iter().zip(&together).enumerate() {
                let mut alone = clear.clone();
                let mut cbc = cbc::Encryptor::inner_iv_init(aes.clone(), &Array(iv(chain)));
                for run in runs(pattern, &mut alone) {
                    cbc.encrypt_blocks(Array::cast_slice_from_core_mut(run));
                }
                prop_assert_eq!(&alone, encrypted);
            }
        }
    }
}
