"""The page of a flow says what became of each step, and loads nothing."""

import re
import subprocess
import sys


def test_a_page_shows_states_times_values_and_logs(project):
    project.write(
        "small.yaml",
        f"""note: What it is for.
params: {{limit: 9}}
steps:
  clean: {{_target_: {project.at("clean")}, inputs: {{raw: raw.txt}}, outputs: {{table: table.txt, rows: json}}, note: Takes out what is small.}}
  total: {{_target_: {project.at("total")}, inputs: {{table: "${{clean.table}}"}}, outputs: [value]}}
  each: {{command: [python, -c, "print('hello ${{item}} <b>')"], over: [1, 2], after: [total]}}
  none: {{command: [echo, never], when: "${{clean.rows}} > ${{limit}}"}}
  bad: {{command: [python, -c, "raise SystemExit('no <such> luck')"], after: [clean]}}
  next: {{command: [echo], after: [bad]}}
""",
    )
    done = subprocess.run([sys.executable, "-m", "arsenal", "flow", "run", "small.yaml"], capture_output=True, text=True)
    assert done.returncode == 1 and "Step `bad` failed: it ended with exit code 1: no <such> luck" in done.stderr, done.stderr
    assert "6 steps: 3 done, 1 left out, 1 failed, 1 not run" in done.stdout
    page = (project.folder / "flows/small/index.html").read_text()
    for words in ("What it is for.", "Takes out what is small.", "3 &gt; 9".replace("3", "3"), "no &lt;such&gt; luck", "hello 1 &lt;b&gt;", "each × 2", "6.0"):
        assert words in page, words
    assert len(re.findall(r"<a href=\"#\w+\" class=\"(\w+)\"><title>", page)) == 6
    assert set(re.findall(r"<a href=\"#\w+\" class=\"(\w+)\"><title>", page)) == {"done", "skipped", "failed", "blocked"}
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page) and "<b>" not in page
    said = subprocess.run([sys.executable, "-m", "arsenal", "flow", "show", "small.yaml", "to=other.html"], capture_output=True, text=True).stdout
    assert "execution 1, failed" in said and re.search(r"^none +skipped +not so: 3 > 9$", said, re.MULTILINE)
    assert (project.folder / "other.html").read_text().count("<svg") == 1


def test_flows_are_listed_with_what_is_wrong_with_them(project):
    project.write("conf/flow/good.yaml", "note: It is good.\nsteps: {a: {command: [ls]}}\n")
    project.write("conf/flow/bad.yaml", "steps: {a: {command: ls}}\n")
    said = subprocess.run([sys.executable, "-m", "arsenal", "flow", "list"], capture_output=True, text=True).stdout
    assert re.search(r"^good +never run +It is good.$", said, re.MULTILINE)
    assert re.search(r"^bad +cannot be used +`command` of step `a` must be a list", said, re.MULTILINE)
    assert re.search(r"^training +never run", said, re.MULTILINE)
