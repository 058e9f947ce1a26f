"""`headwater package` in the schemes that no entry point leads to, cens and cbc1: undone by others, like the rest."""

import shutil
import tempfile
from pathlib import Path

import commonencryption
import isobmff
import outsiders

SCHEMES = ("cens", "cbc1")
# Pictures have a pattern in cens.
PATTERNS = {("cens", "encv"): (1, 9)}


def check(run, row):
    """One title, written in the clear and in each scheme."""
    out = Path(tempfile.mkdtemp(dir=run.scratch, prefix="packaged."))
    source = run.site.library / row["path"]
    try:
        clear = package(run, source, out / "clear", "cmaf")
        if clear is None:
            run.count("titles without a CMAF form")
            return
        # Its name hangs on the library it is in: that of its folder alone is another.
        run.site.run("keys", "create", run.site.vault, clear.name, "--kek", run.site.kek, "--scheme", ",".join(SCHEMES))
        keys = run.site.list_keys(clear.name)
        for scheme in SCHEMES:
            protected = package(run, source, out / scheme, f"cmaf-{scheme}", "--config", run.site.scratch / "protected.toml",
                                "--library", source.parent)
            if protected is None:
                run.count(f"titles that {scheme} has no mapping for")
                continue
            run.count(f"titles packaged in {scheme}")
            for init in sorted(protected.glob("*/*/*/init.mp4")):
                representation = init.parent.name
                before = next(clear.glob(f"*/*/{representation}/init.mp4")).parent
                subject = f"{row['path']} {scheme} {representation}"
                with run.report.step(subject, "is checked to the end"):
                    check_track(run, subject, scheme, keys, before, init.parent)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def package(run, source, out, form, *arguments):
    """The folder that was written; None where the title has no such form."""
    try:
        said = run.site.run("package", source, "--output", out, "--form", form, *arguments)
    except RuntimeError as error:
        run.report.check(f"{source.name} {form}", "is packaged, or refused for a reason",
                         "no form asked for can carry it" in str(error) or "no mapping" in str(error)
                         or "too many slices or tiles" in str(error) or run.damaged(source), str(error)[-300:])
        return None
    return Path(said.splitlines()[-1])


def check_track(run, subject, name, keys, clear, protected):
    clear_init, sealed_init = (folder.joinpath("init.mp4").read_bytes() for folder in (clear, protected))
    scheme = commonencryption.read_scheme(sealed_init)
    if scheme is None:
        run.report.check(subject, "is clear as text is", protected.name[0] not in "va")
        return
    run.report.check(subject, "has the scheme that was asked for", scheme.kind == name, scheme.kind)
    pattern = (scheme.crypt_blocks, scheme.skip_blocks)
    run.report.check(subject, "has the pattern of its scheme", pattern == PATTERNS.get((name, scheme.entry), (0, 0)), str(pattern))
    run.report.check(subject, "has IVs of its scheme", scheme.iv_size == (8 if name == "cens" else 16), str(scheme.iv_size))
    key = keys[name, scheme.key_id]
    header = isobmff.read_header(clear_init)
    number = lambda path: int(path.stem)
    files = sorted((path for path in protected.glob("*.m4s") if path.stem.isdigit()), key=number)
    trick = sorted(protected.glob("iframe-*.m4s"))
    wrong, encrypted, count, ivs = [], 0, 0, set()
    for path in files + trick:
        data, truth = path.read_bytes(), isobmff.read_segment(clear.joinpath(path.name).read_bytes(), header)
        segment = isobmff.read_segment(data, header)
        if len(segment.samples) != len(truth.samples):
            wrong.append(f"{path.name}: {len(segment.samples)} samples, clear {len(truth.samples)}")
        for at, (sample, seal, before) in enumerate(zip(segment.samples, commonencryption.read_seals(data, segment, scheme),
                                                        truth.samples)):
            plain, size = commonencryption.decrypt(sample.data, seal, scheme, key)
            encrypted += size
            count += 1
            if plain != before.data:
                wrong.append(f"{path.name} sample {at}")
            if path in files:
                ivs.add(seal.iv)
    run.report.check(subject, "decrypts to the clear samples", not wrong, str(wrong[:3]))
    run.count(f"{name} samples decrypted and equal", count - len(wrong))
    run.count(f"{name} bytes decrypted", encrypted)
    samples = sum(len(isobmff.read_segment(path.read_bytes(), header).samples) for path in files)
    run.report.check(subject, "has an IV for each sample", len(ivs) == samples, f"{len(ivs)} for {samples}")
    both = [outsiders.indexed(init, header, [folder.joinpath(path.name).read_bytes() for path in files])
            for init, folder in ((clear_init, clear), (sealed_init, protected))]
    run.packets.check_cmaf(subject, header, scheme, key, [clear.joinpath(path.name).read_bytes() for path in files], both[1])
    run.twins.check(subject, header, scheme, key, both[0], [path.read_bytes() for path in files])
