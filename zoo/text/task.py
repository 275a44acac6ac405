"""Training a translator: teacher-forced loss, and translations scored as their users will read them."""

from typing import Any

from zoo.core import StackConfig
from zoo.core.decode import Hypothesis, check_length_penalty
from zoo.core.init import Scheme
from zoo.text.model import Seq2Seq, shifted_right
from zoo.text.tokens import Tokenizer
from zoo.train.losses import TokenLoss, check_consistency, check_label_smoothing, token_loss, twice
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class Pairs(Task):
    """Base of what trains a Seq2Seq on pairs: the loss of each target token, given those before it."""

    kind = "Seq2Seq"
    own = ("start", "end")
    entries = ("hidden", "generate")
    network: Seq2Seq
    label_smoothing = 0.0
    z_loss = 0.0
    consistency = 0.0

    @staticmethod
    def marks(**given: int | None) -> dict[str, int]:
        """What a Seq2Seq begins with, ends with and pads with: what is given, else as zoo's own tokens have it."""
        own = {name: getattr(Tokenizer, name) for name in given}
        return own | {name: token for name, token in given.items() if token is not None}

    def loss(self, batch: Any) -> TokenLoss:
        consistency = self.consistency if self.training else 0.0
        rows = batch.source, batch.labels, batch.source_keep, batch.keep
        source, labels, source_keep, keep = twice(*rows) if consistency else rows
        states, layout = self.network.hidden(source, shifted_right(labels, self.network.start), source_keep, keep)
        labels = layout.take(labels, keep)
        head = self.network.head
        return token_loss(
            states,
            head.weight,
            labels,
            head.bias,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            consistency=consistency,
        )

    def compile_stacks(self) -> None:
        """The stacks only, in place: names of weights stay, and packing stays outside."""
        self.network.encoder.compile()
        self.network.decoder.compile()


class Translation(Pairs):
    """A Seq2Seq on pairs of texts.

    Validation and test translate with `beams` and score with sacreBLEU (BLEU and chrF, signatures printed) and by exact
    match; the teacher-forced loss stands beside. `length` bounds a translation, in tokens.

    `consistency`: a training batch is read twice, side by side, with two draws of dropout, and the two are held to say
    the same with this weight (R-Drop, Liang et al. 2021). A step costs twice as much.
    """

    def __init__(
        self,
        encoder: StackConfig,
        decoder: StackConfig,
        vocab_size: int,
        source_vocab_size: int | None = None,
        pad: int | None = None,
        start: int | None = None,
        end: int | None = None,
        ends: tuple[int, ...] = (),
        unwritten: tuple[int, ...] = (),
        share_embeddings: bool = True,
        tied: bool = True,
        embed_scale: bool = True,
        head_scale: bool = False,
        head_bias: bool = False,
        init: Scheme = "xavier",
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        consistency: float = 0.0,
        beams: int = 4,
        validation_beams: int = 1,
        length: int = 96,
        length_penalty: float = 1.0,
        lowercase_scores: bool = False,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        check_label_smoothing(label_smoothing)
        check_consistency(consistency)
        for name, value in {"beams": beams, "validation_beams": validation_beams, "length": length}.items():
            if value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
        check_length_penalty(length_penalty, length)
        self.network = Seq2Seq(
            encoder,
            decoder,
            vocab_size,
            source_vocab_size=source_vocab_size,
            share_embeddings=share_embeddings,
            tied=tied,
            embed_scale=embed_scale,
            head_scale=head_scale,
            head_bias=head_bias,
            unwritten=unwritten,
            init=init,
            ends=ends,
            **self.marks(pad=pad, start=start, end=end),
        )
        self.label_smoothing, self.z_loss, self.consistency = label_smoothing, z_loss, consistency
        self.beams, self.validation_beams = beams, validation_beams
        self.length, self.length_penalty = length, length_penalty
        self.lowercase_scores = lowercase_scores
        if compile:
            self.compile_stacks()
        self.written: dict[int, list[Hypothesis]] = {}

    def on_validation_epoch_start(self) -> None:
        self.written = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self._write(batch, self.validation_beams)

    def on_validation_epoch_end(self) -> None:
        scores = self._compare("val")
        self.log_dict(
            {f"val/{name}": value for name, value in scores.items() if isinstance(value, float)},
            prog_bar=True,
            sync_dist=True,  # equal on all ranks: they have gathered
        )

    def on_test_epoch_start(self) -> None:
        self.written = {}

    def test_step(self, batch: Any, batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        self._write(batch, self.beams)

    def on_test_epoch_end(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        scores = self._compare("test")
        nll = self.trainer.callback_metrics.get("test/nll")
        result = {"test_set": data.test_set, "beams": self.beams, "length_penalty": self.length_penalty, **scores}
        if nll is not None:
            result["nll"] = float(nll)
        self.log_dict(
            {f"test/{name}": value for name, value in scores.items() if isinstance(value, float)}, sync_dist=True
        )
        self.report(result, f"test-{data.test_set}-beams{self.beams}.json")

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self._write(batch, self.beams)

    def on_predict_epoch_start(self) -> None:
        self.written = {}

    def on_predict_epoch_end(self) -> None:
        self.written = self.gather(self.written)
        if self.trainer.is_global_zero:
            for text in self._texts():
                print(text)

    def _write(self, batch: Any, beams: int) -> None:
        results = self.network.generate(
            batch.source, batch.source_keep, length=self.length, beams=beams, length_penalty=self.length_penalty
        )
        self.written |= dict(zip(batch.index.tolist(), results, strict=True))

    def _texts(self) -> list[str]:
        """Translations in the order of the data set."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.decode([self.written[row][0].tokens for row in sorted(self.written)])

    def _compare(self, split: str) -> dict[str, Any]:
        """BLEU and chrF of what was written, with their signatures, and the share of exact translations."""
        from sacrebleu.metrics import BLEU, CHRF

        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.written = self.gather(self.written)
        rows = sorted(self.written)
        if not rows:
            return {}
        texts = self._texts()
        references = data.references(split)
        references = [references[row] for row in rows]
        lowercase = self.lowercase_scores
        # intl splits at punctuation and symbols of any script, as the tokenised scores of papers do
        metrics = {
            "bleu": BLEU(lowercase=lowercase),
            "bleu_intl": BLEU(lowercase=lowercase, tokenize="intl"),
            "chrf": CHRF(lowercase=lowercase),
        }
        scores: dict[str, Any] = {name: m.corpus_score(texts, [references]).score for name, m in metrics.items()}
        scores["exact"] = sum(a == b for a, b in zip(texts, references, strict=True)) / len(texts)
        signatures = {f"{name}_signature": str(metric.get_signature()) for name, metric in metrics.items()}
        return scores | {"sentences": len(texts)} | signatures
