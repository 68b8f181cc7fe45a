"""What decides whether the engines are brought again. Needs no cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.engines import install


def test_another_version_brings_the_jars_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poms = Path(shutil.copytree(install.JARS, tmp_path / "jars"))
    monkeypatch.setattr(install, "JARS", poms)
    before = {engine: install.stamp(engine) for engine in ("flink", "spark")}
    assert len(set(before.values())) == 2
    for name, engine in (("flink.xml", "flink"), ("spark-job-server.xml", "spark")):
        text = (poms / name).read_text()
        (poms / name).write_text(text + "<!-- changed -->")
        assert install.stamp(engine) != before[engine]
        (poms / name).write_text(text)
        assert install.stamp(engine) == before[engine]
    monkeypatch.setitem(install._OFFICIAL, "flink", "org.apache.beam:beam-runners-flink-1.20-job-server")
    assert install.stamp("flink") != before["flink"]
    assert install.stamp("spark") == before["spark"]


def test_versions_of_the_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_LIBRARIES", {"flink": tmp_path, "spark": tmp_path})
    assert install.cluster_version("flink") == ""
    for name in ("flink-rpc-core-1.19.3.jar", "flink-runtime-1.19.3.jar", "spark-core_2.12-3.5.0.jar"):
        (tmp_path / name).touch()
    assert (install.cluster_version("flink"), install.cluster_version("spark")) == ("1.19.3", "3.5.0")
