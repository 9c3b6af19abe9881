"""The command line: ``cryoscale VERB``.

Exit codes: 0 all done, 2 the command or its inputs contradict themselves, 3 finished but some tomograms failed,
4 paused (run the same command again), 5 another run holds the folder, 70 a fault of ours, 129, 130 or 143 a signal.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from cryoscale import __version__
from cryoscale.arguments import integers, shape, workers
from cryoscale.engine import as_failure
from cryoscale.errors import CryoscaleError, PauseError, UsageError
from cryoscale.interrupt import check
from cryoscale.learning import add_train_verb
from cryoscale.progress import Bars, printable
from cryoscale.running import add_run_verbs, executor_for, fitting_workers, read_run
from cryoscale.slicing import add_slice_verbs
from cryoscale.spec import RunSpec, to_toml
from cryoscale.submitting import add_submitting_verbs

__all__ = ["main"]

_REFUSED = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
"""What a path can be refused for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:2] == ["evaluate", "particles"]:
        words[:2] = ["evaluate particles"]
    options = _parser(words[0] if words else "").parse_args(words)
    options.typed = shlex.join(words)
    try:
        code: int = options.run(options)
    except CryoscaleError as error:
        print(printable(f"cryoscale: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        check()
        told = _of_machine(error, options) if isinstance(error, OSError) else None
        if told is not None:
            print(printable(f"cryoscale: {told}"), file=sys.stderr)
            return told.exit_code
        traceback.print_exc()
        print("cryoscale: a fault of ours, please report the lines above", file=sys.stderr)
        return 70
    return code


def _of_machine(error: OSError, options: argparse.Namespace) -> CryoscaleError | None:
    """Return what a disk, or the rights to a file, refused a verb; None where the fault may be ours."""
    folder = str(getattr(options, "output", None) or "")
    failure = as_failure(error, options.verb, folder)
    if isinstance(failure, PauseError):
        return failure
    if error.errno not in _REFUSED or not (error.filename or folder):
        return None
    todo = "name another file or folder, or get the right to this one"
    return UsageError(error.strerror or str(error), where=str(error.filename or folder), todo=todo)


def _parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser of all verbs; what takes long to import is left out where another verb is asked for."""
    parser = argparse.ArgumentParser(
        prog="cryoscale", description="Cryo-electron tomograms in, separate, closed, measured membranes out."
    )
    parser.add_argument("--version", action="version", version=f"cryoscale {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_run_verbs(verbs)
    add_submitting_verbs(verbs, read_run)
    _demo_parser(verbs.add_parser("demo", help="simulate a tomogram, run everything on it, score it, show the report"))
    _simulate_parser(verbs.add_parser("simulate", help="write a simulated tomogram and its truth"))
    add_train_verb(verbs)
    add_slice_verbs(verbs)
    _evaluate_parser(verbs.add_parser("evaluate", help="score labels against the truth"))
    _particles_parser(verbs.add_parser("evaluate particles", help="score positions of particles against the truth"))
    config = verbs.add_parser("config", help="print every option with its default, as TOML")
    config.set_defaults(run=_config)
    doctor = verbs.add_parser("doctor", help="versions, cores, memory, GPU, what is missing")
    doctor.set_defaults(run=_doctor)
    if verb not in verbs.choices:
        from cryoscale.measuring import add_measure_verb
        from cryoscale.viewing import add_view_verbs

        add_view_verbs(verbs)
        add_measure_verb(verbs)
    return parser


def _demo_parser(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--output", type=Path, default=Path("cryoscale-demo"), metavar="DIR")
    demo.add_argument("--seed", type=int, default=90_000)
    demo.add_argument("--snr", type=float, default=0.3)
    demo.add_argument("--shape", type=shape, default=(200, 400, 400), metavar="Z,Y,X")
    demo.add_argument("--workers", type=workers, default=0, metavar="N")
    demo.add_argument("--dashboard", action="store_true")
    demo.set_defaults(run=_demo)


def _simulate_parser(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("--output", type=Path, required=True, metavar="DIR")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument(
        "--preset", default="", metavar="NAME", help="demo, training, shrec2021, cell, microtubules, heldout, real"
    )
    simulate.add_argument("--labels", default="", metavar="FILE", help="take the membranes of a label volume (real)")
    simulate.add_argument(
        "--mask-labels", type=integers, default=(), metavar="N,N", help="membrane (default: all but 0)"
    )
    simulate.add_argument("--labels-apix", type=float, metavar="Å", help="their voxel size, if the header is silent")
    simulate.add_argument("--shape", type=shape, default=(200, 400, 400), metavar="Z,Y,X")
    imaging = simulate.add_argument_group("how it is imaged (what is left out is drawn from the preset's ranges)")
    imaging.add_argument("--apix", type=float, metavar="Å", help="voxel size")
    imaging.add_argument("--snr", type=float, help="signal to noise variance in the reconstruction")
    imaging.add_argument("--tilt-range", type=float, metavar="DEGREES", help="tilts from minus to plus this")
    imaging.add_argument("--tilt-step", type=float, metavar="DEGREES")
    imaging.add_argument("--defocus", type=float, metavar="UM", help="underfocus is above 0")
    imaging.add_argument("--phase-flip", action=argparse.BooleanOptionalAction, help="correct the sign of the CTF")
    imaging.add_argument("--voltage", type=float, metavar="KV")
    imaging.add_argument("--cs", type=float, metavar="MM", help="spherical aberration")
    imaging.add_argument("--amplitude-contrast", type=float, metavar="SHARE")
    imaging.add_argument("--dose", type=float, metavar="E/Å2", help="of all tilts: decides of what kind the noise is")
    imaging.add_argument("--shifts", type=float, metavar="NM", help="sd of the errors of alignment, per image and axis")
    imaging.add_argument("--detector", type=float, metavar="SHARE", help="of the signal that is kept at Nyquist")
    imaging.add_argument("--sirt", type=int, metavar="N", help="weight as so many iterations would (0: ramp)")
    simulate.set_defaults(run=_simulate)


def _evaluate_parser(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("prediction", type=Path, help="labels: MRC, TIFF or OME-Zarr")
    evaluate.add_argument("truth", type=Path, help="true labels of the same shape")
    evaluate.add_argument("--tolerance", type=float, metavar="NM", help="of the surface Dice (default: one voxel)")
    evaluate.add_argument("--apix", type=float, metavar="Å", help="voxel size, where neither header states it")
    evaluate.add_argument("--by-angle", action="store_true", help="also by the true membranes' angle to the beam")
    evaluate.add_argument("--output", type=Path, metavar="DIR", help="tables by slice and by membrane, and a picture")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=_evaluate)


def _particles_parser(particles: argparse.ArgumentParser) -> None:
    particles.add_argument("prediction", metavar="PRED.txt", help="`class x y z` a line, in voxels")
    particles.add_argument(
        "--truth", required=True, metavar="FOLDER", help="particle_locations.txt and occupancy_mask.mrc"
    )
    particles.add_argument("--rule", choices=("shrec2021", "radius", "czii"), default="shrec2021")
    particles.add_argument("--radii", default="", metavar="FILE", help="`class radius_angstrom [weight]` a line")
    particles.add_argument("--radius", type=float, metavar="Å", help="radius of classes that --radii does not name")
    particles.add_argument("--apix", type=float, metavar="Å", help="voxel size, where the mask does not state it")
    particles.add_argument("--json", action="store_true", help="print JSON")
    particles.set_defaults(run=_evaluate_particles)


def _demo(options: argparse.Namespace) -> int:
    from cryoscale.crowding import need_of
    from cryoscale.demo import run_demo
    from cryoscale.records import Geometry
    from cryoscale.simulate import CONDITIONS

    edge = CONDITIONS["demo"].voxel_size_angstrom[0]
    need = need_of("the demo", Geometry(options.shape, (edge, edge, edge)), 4, RunSpec())
    count = fitting_workers([need], options.workers)
    with executor_for(count, dashboard=options.dashboard) as executor:
        return run_demo(options.output, executor, Bars(), seed=options.seed, snr=options.snr, shape=options.shape)


def _simulate(options: argparse.Namespace) -> int:
    from cryoscale.demo import write_simulation

    path = write_simulation(
        options.output,
        seed=options.seed,
        snr=options.snr,
        shape=options.shape,
        apix=options.apix,
        preset=options.preset or ("real" if options.labels else "demo"),
        labels=options.labels,
        values=options.mask_labels,
        labels_apix=options.labels_apix,
        tilt_range_degrees=options.tilt_range,
        tilt_step_degrees=options.tilt_step,
        defocus_um=options.defocus,
        phase_flip=options.phase_flip,
        voltage_kv=options.voltage,
        cs_mm=options.cs,
        amplitude_contrast=options.amplitude_contrast,
        dose_per_angstrom2=options.dose,
        shift_sd_nm=options.shifts,
        detector_at_nyquist=options.detector,
        sirt_iterations=options.sirt,
    )
    print(path)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from cryoscale.comparing import compare_volumes, print_comparison, write_comparison

    compared = compare_volumes(
        options.prediction,
        options.truth,
        tolerance_nm=options.tolerance,
        apix=options.apix,
        by_angle=options.by_angle,
    )
    print_comparison(compared, as_json=options.json)
    if options.output:
        write_comparison(compared, options.output)
    return 0


def _evaluate_particles(options: argparse.Namespace) -> int:
    from cryoscale.picking import Radii, print_particle_scores

    if options.rule == "shrec2021" and (options.radii or options.radius is not None or options.apix is not None):
        raise UsageError("--radii, --radius and --apix are about distances", where="--rule shrec2021")
    radii = Radii(options.radii, options.radius, options.apix)
    print_particle_scores(options.prediction, options.truth, rule=options.rule, radii=radii, as_json=options.json)
    return 0


def _config(options: argparse.Namespace) -> int:  # noqa: ARG001
    print(to_toml(RunSpec()))
    return 0


def _doctor(options: argparse.Namespace) -> int:  # noqa: ARG001
    from cryoscale.doctor import examine

    lines, healthy = examine()
    print("\n".join(lines))
    return 0 if healthy else 4
