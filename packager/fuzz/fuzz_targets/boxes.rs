//! Walks any bytes as nested boxes: no read leaves its box, and positions only grow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packager::isobmff::{BoxError, BoxReader, FourCc};
use packager_fuzz as _;

const DEPTH_MAX: u32 = 8;

fuzz_target!(|data: &[u8]| {
    let _ = walk(BoxReader::new(FourCc(*b"file"), 0, 0, data), 0);
});

fn walk(mut parent: BoxReader<'_>, depth: u32) -> Result<(), BoxError> {
    while let Some(child) = parent.child()? {
        let end = child.position() + child.remaining().len() as u64;
        assert_eq!(end, parent.position(), "a child ends where its parent goes on");
        read_fields(child)?;
        if depth < DEPTH_MAX {
            walk(child, depth + 1).ok();
        }
    }
    Ok(())
}

fn read_fields(mut fields: BoxReader<'_>) -> Result<(), BoxError> {
    fields.version_and_flags()?;
    let count = fields.entry_count(4, 1 << 16)?;
    for _ in 0..count {
        fields.u32().expect("entry_count promised these");
    }
    fields.u8()?;
    fields.u16()?;
    fields.u24()?;
    fields.u64()?;
    fields.fourcc()?;
    Ok(())
}
