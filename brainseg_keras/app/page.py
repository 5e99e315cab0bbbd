"""The page itself, in Gradio: what stands where, and what happens at a click."""

import contextlib
import html
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel

from brainseg_keras.app.door import Call
from brainseg_keras.app.results import NOT_CLINICAL
from brainseg_keras.app.sessions import Models, Visit, Visits
from brainseg_keras.app.study import HIGHEST, LOWEST, Study
from brainseg_keras.app.uploads import collect
from brainseg_keras.app.view import MODES, OUTLINE, Wish, render
from brainseg_keras.errors import InputError

_log = logging.getLogger(__name__)
NONE = "none"
_HEAD = f"""<div class="brainseg-head"><h1>Brain tumour segmentation</h1><p><b>{NOT_CLINICAL}</b>
Nothing that you drop here leaves this machine, and it is deleted when you close the page.</p></div>"""
_KINDS = "PNG, JPEG, TIFF, BMP, NIfTI, DICOM or BraTS .h5; one file, several, or a zip."
_EMPTY = "<p>Drop an MRI, or take an example.</p>"


def style() -> dict[str, Any]:
    """Give the look of the page: fonts of the system, since others would be fetched from elsewhere."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    theme = gr.themes.Soft(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": Path(__file__).with_name("page.css").read_text(encoding="utf-8")}


class _Tokens(GradioRootModel):
    """What the page sends for its files: with no path in it, Gradio has nothing to open, to copy or to fetch."""

    root: list[str]


def build_page(models: Models, visits: Visits, *, max_upload: int) -> gr.Blocks:
    """Lay the page out and tie its parts to what they do.

    Args:
        models: Networks on offer.
        visits: Who is there.
        max_upload: Megabytes of one file; what a zip unpacks to may be four times as much.

    Returns:
        The page.
    """
    names = list(models.paths)
    desk = _Desk(models, visits, 4 * max_upload * 2**20)
    with gr.Blocks(title="Brain tumour segmentation", analytics_enabled=False) as page:
        gr.HTML(_HEAD)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label="MRI", file_count="multiple", height=160, elem_id="files")
                files.data_model = _Tokens
                gr.Markdown(f"{_KINDS} At most {max_upload} MB a file.")
                with gr.Row():
                    one = gr.Button("Example: slices", size="sm", min_width=120)
                    volume = gr.Button("Example: volume", size="sm", min_width=120)
                model = gr.Dropdown(names, value=names[0], label="Model", elem_id="model")
                second = gr.Dropdown([NONE, *names], value=NONE, label="Compare with", elem_id="second")
                run = gr.Button("Segment", variant="primary", elem_id="run")
                status = gr.HTML(_say(_EMPTY), elem_classes="brainseg-status", elem_id="status")
                scan = gr.Dropdown([], label="Scan", visible=False, elem_id="scan")
            with gr.Column(scale=3, min_width=300):
                view = gr.HTML(elem_id="view")
                with gr.Group(visible=False) as controls:
                    index = gr.Slider(1, 2, value=1, step=1, label="Slice", elem_id="slice", buttons=[])
                    with gr.Row():
                        opacity = gr.Slider(0, 1, value=0.8, step=0.05, label="Opacity", elem_id="opacity", buttons=[])
                        threshold = gr.Slider(
                            LOWEST, HIGHEST, value=0.5, step=0.01, label="Threshold", elem_id="threshold", buttons=[]
                        )
                    with gr.Row():
                        mode = gr.Radio(
                            list(MODES), value=OUTLINE, label="Show", elem_id="mode", scale=3, min_width=280
                        )
                        sequence = gr.Dropdown([], label="Sequence", elem_id="sequence", scale=1, min_width=120)
                links = gr.HTML(elem_id="links")
        shown = [status, view, controls, index, threshold, sequence, scan, links]
        asked = [model, second, mode, opacity]
        # Values are checked where they are used: to one that its control does not offer, Gradio would answer 500.
        plain = {"api_visibility": "private", "preprocess": False}
        waiting = plain | {"concurrency_id": "network", "concurrency_limit": 1, "show_progress_on": status}
        # The last position of a slider counts, and none waits in the queue behind a running network.
        at_once = plain | {"queue": False, "trigger_mode": "always_last", "show_progress": "hidden"}
        for event, first, find in (
            (run.click, files, desk.open_files),
            (one.click, gr.State("lgg"), desk.open_example),
            (volume.click, gr.State("nifti"), desk.open_example),
            (scan.input, scan, desk.open_other),
        ):
            event(desk.segmenting(find), [first, *asked], shown, **waiting)
        wishes = [index, mode, opacity, threshold, sequence]
        for control in wishes:
            control.input(desk.redraw, wishes, [view], **at_once)
        files.upload(desk.remember, [files], [], queue=False, **plain)
        page.unload(desk.leave)
    # Gradio checks paths in a page that it has launched itself, and in no other. Here none comes in: a second lock.
    page.has_launched = True
    return page


def calls_of(page: gr.Blocks) -> dict[int, Call]:
    """List what a browser may call, as the door needs it: not what happens when a visitor leaves."""
    kinds = {gr.File: "files", gr.Slider: "number", gr.State: "state"}
    return {
        number: Call(function.queue, tuple(kinds.get(type(part), "text") for part in function.inputs))
        for number, function in page.fns.items()
        if all(event != "unload" for _, event in function.targets)
    }


class _Desk:
    """What happens at a click; every answer to the visitor is words or a picture, never a traceback."""

    def __init__(self, models: Models, visits: Visits, unpacked: int):
        self._models = models
        self._visits = visits
        self._unpacked = unpacked

    def remember(self, uploads: list[str], request: gr.Request) -> None:
        """Note what was sent, so that it goes with the visitor."""
        visit = self._visits.of(request.session_hash)
        # What is gone is said at the button.
        with contextlib.suppress(InputError):
            self._visits.claim(visit, uploads)

    def leave(self, request: gr.Request) -> None:
        """Remove what a visitor who has left had here."""
        self._visits.end(request.session_hash)

    def open_files(self, visit: Visit, uploads: list[str]) -> Study:
        """Open what was dropped, by the tokens of its files."""
        return _open(visit, self._visits.claim(visit, uploads), self._unpacked)

    def open_example(self, visit: Visit, kind: str) -> Study:
        """Open a synthetic patient: `lgg` is slices, `nifti` a volume of four sequences."""
        return _open(visit, _example(kind), self._unpacked)

    def open_other(self, visit: Visit, title: str) -> Study:
        """Open another of the scans that were dropped together."""
        return _study(visit, title)

    def segmenting(self, find: Callable[[Visit, Any], Study]) -> Callable[..., list]:
        """Make what a click calls: it opens a study in one of these ways, and segments it."""

        def segment(
            first: Any,
            model: str,
            second: str,
            mode: str,
            opacity: float,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> list:
            visit = self._visits.of(request.session_hash)
            return self._segment(visit, lambda: find(visit, first), (model, second), (mode, opacity), progress)

        return segment

    def redraw(
        self, index: float, mode: str, opacity: float, threshold: float, sequence: str | None, request: gr.Request
    ) -> str:
        """Show another slice, or the same in another way; only attention maps ask the network."""
        visit = self._visits.of(request.session_hash)
        if visit.study is None:
            return _say("<p>The scan is gone after a long pause. Segment it again.</p>", error=True)
        visit.wish = _wish(visit.study, index - 1, mode, opacity, threshold, sequence)
        try:
            return render(visit.study, visit.wish)
        except Exception as error:  # as below
            return _say(f"<p>{html.escape(_words(error))}</p>", error=True)

    def _segment(
        self,
        visit: Visit,
        find: Callable[[], Study],
        networks: tuple[str, str],
        look: tuple[str, float],
        progress: gr.Progress,
    ) -> list:
        try:
            progress(0, desc="Reading")
            study = find()
            chosen = [name for name in dict.fromkeys(networks) if name != NONE]
            for number, name in enumerate(chosen):
                progress(number / len(chosen), desc=f"Loading {name}")
                predictor = self._models.load(name)
                study.answer(
                    name,
                    predictor,
                    lambda share, number=number, name=name: progress(
                        (number + share) / len(chosen), desc=f"Segmenting with {name}"
                    ),
                )
            visit.study = study
            return self._show(visit, *look)
        except Exception as error:  # a visitor gets words whatever happens; the log has the rest
            return _refuse(_words(error))
        finally:
            if visit.left:
                visit.remove()

    def _show(self, visit: Visit, mode: str, opacity: float) -> list:
        study = visit.study
        first = next(iter(study.answers.values()))
        chosen = first.predictor.spec.postprocessing.threshold
        index = first.fullest(chosen)
        visit.wish = Wish(index, mode, opacity, chosen, study.default_sequence)
        count = len(study.slice_names)
        said = (answer.remark for answer in study.answers.values() if answer.remark)
        remarks = dict.fromkeys(remark.removeprefix(f"{study.title}: ") + "." for remark in said)
        licenses = {name: answer.predictor.spec.license for name, answer in study.answers.items()}
        terms = [f"The weights {name} are under {license}." for name, license in licenses.items() if license]
        words = " ".join([f"{study.title}: {count} slice{'s' if count > 1 else ''}.", *remarks, *terms])
        titles = list(visit.scans)
        return [
            _say(f"<p>{html.escape(words)}</p>"),
            render(study, visit.wish),
            gr.update(visible=True),
            gr.update(maximum=max(count, 2), value=index + 1, visible=count > 1),
            gr.update(value=chosen),
            gr.update(choices=study.sequences, value=study.default_sequence, visible=len(study.sequences) > 1),
            gr.update(choices=titles, value=study.title, visible=len(titles) > 1),
            _links(visit),
        ]


def _wish(study: Study, index: float, mode: str, opacity: float, threshold: float, sequence: str | None) -> Wish:
    """Take what was asked for, within what there is."""
    return Wish(
        index=int(min(max(index, 0), len(study.slice_names) - 1)),
        mode=mode if mode in MODES else OUTLINE,
        opacity=min(max(opacity, 0), 1),
        threshold=round(min(max(threshold, LOWEST), HIGHEST), 2),
        sequence=sequence if sequence in study.sequences else study.default_sequence,
    )


def _words(error: Exception) -> str:
    """Say to a visitor what went wrong; what they cannot mend goes to the log, since it may name folders."""
    if isinstance(error, InputError):
        return str(error)
    _log.exception("This failed, and should not have")
    return f"This failed, and should not have ({type(error).__name__}). The terminal says more."


def _open(visit: Visit, files: list[Path], unpacked: int) -> Study:
    scans = collect(files, visit.fresh_folder(), limit=unpacked)
    visit.scans = {}
    for scan in scans:
        # Without the folders that only this server knows.
        title = str(scan.outputs[0] if len(scan.outputs) == 1 else scan.outputs[0].parent)
        title = scan.files[0].parent.name if title == "." else title
        visit.scans[title if title not in visit.scans else f"{title} ({len(visit.scans) + 1})"] = scan
    return _study(visit, next(iter(visit.scans)))


def _study(visit: Visit, title: str) -> Study:
    if title not in visit.scans:
        raise InputError("The scan is gone after a long pause. Drop it again.")
    try:
        return Study(visit.scans[title], title)
    except InputError as error:
        folder = visit.scans[title].files[0]
        base = next(parent for parent in folder.parents if parent.parent == visit.scan_folder)
        raise InputError(str(error).replace(f"{base}/", "")) from error


def _example(kind: str) -> list[Path]:
    from brainseg_keras.data.sources import cached_phantom

    folder = next(path for path in sorted(cached_phantom(kind).glob("*/*")) if path.is_dir())
    return [file for file in sorted(folder.iterdir()) if "mask" not in file.name and "seg" not in file.name]


def _links(visit: Visit) -> str:
    names = list(visit.study.answers)
    masks = [("Mask" if len(names) == 1 else f"Mask of {name}", f"mask/{n}") for n, name in enumerate(names)]
    links = [
        f'<a download href="./result/{visit.token}/{where}">{html.escape(label)}</a>'
        for label, where in [*masks, ("Report (HTML)", "report")]
    ]
    return f'<div class="brainseg-links">{"".join(links)}</div>'


def _say(text: str, *, error: bool = False) -> str:
    role = "alert" if error else "status"
    return f'<div role="{role}">{text.replace("<p>", "<p class=error>") if error else text}</div>'


def _refuse(message: str) -> list:
    unchanged = [gr.update() for _ in range(4)]
    return [_say(f"<p>{html.escape(message)}</p>", error=True), "", gr.update(visible=False), *unchanged, ""]
