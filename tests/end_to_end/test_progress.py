"""Output of a training: a bar on a terminal, BasicSR's lines elsewhere, curves in files."""

from __future__ import annotations

import csv
import os
import re
import struct

import pytest

from .. import warm

# Pseudo-terminals exist on Unix only.
fcntl = pytest.importorskip("fcntl")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

COLUMNS = 120
BAR = r" *\d+%\|.*\| +(\d+)/(\d+), +\S+(it/s|s/it), ETA \d+:\d+, l_pix \S+, grad_norm \S+, lr \S+, \d+\.\d GB"


def on_a_terminal(project):
    """Exit code of a training, and its output to a terminal of COLUMNS columns."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    command = ("-m", "rgt_arch.cli", "train", "-opt", project.write())
    process = warm.start(*command, cwd=project.root, terminal=end)
    os.close(end)
    sent = b""
    while part := read(terminal):
        sent += part
    os.close(terminal)
    return process.wait(), sent.decode()


def read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # on Linux: the other end is closed
        return b""


def screen(sent):
    """The final lines of the terminal, and all states of the line with the cursor."""
    lines, states, row, column = [[]], [], 0, 0
    for piece in re.findall(r"\x1b\[\w|\r|\n|[^\x1b\r\n]+", sent):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
        elif piece == "\x1b[A":
            row -= 1
        else:
            line = lines[row]
            line += " " * (column - len(line))
            line[column : column + len(piece)] = piece
            column += len(piece)
            states.append("".join(line).rstrip())
    return ["".join(line).rstrip() for line in lines], states


def test_a_terminal_shows_a_bar_below_whole_log_lines(run):
    run.options["val"]["pbar"] = True
    code, sent = on_a_terminal(run)
    assert code == 0, sent
    lines, states = screen(sent)
    bars = [re.fullmatch(BAR, state) for state in states]
    assert {int(bar[1]) for bar in bars if bar} >= {8}
    assert {int(bar[2]) for bar in bars if bar} == {8}
    assert len([line for line in lines if re.fullmatch(BAR, line)]) == 1  # its final state
    assert all(len(line) <= COLUMNS for line in lines if re.search(r"\d%\|", line))
    [log] = run.run_folder.glob("train_*.log")
    told = re.compile(r"iter: .* lr:|INFO: (Sav|Val)")
    written = [line.rstrip() for line in log.read_text().splitlines() if told.search(line)]
    assert len(written) > 8
    assert set(written) <= set(lines), "log lines are whole, on the terminal and in the file"


def test_a_pipe_gets_only_basicsrs_lines_and_a_csv_has_losses_and_metrics_on_request(run):
    run.options["logger"].update(csv=True, use_tb_logger=False)
    run.options["val"]["pbar"] = True
    printed = run.train()
    assert "\r" not in printed
    assert "ETA" not in printed
    assert len(re.findall(r"iter: +\d+, lr:\(.*l_pix: ", printed)) == 8
    with (run.run_folder / "metrics.csv").open(newline="") as file:
        rows = [(row["iteration"], row["dataset"], row["name"]) for row in csv.DictReader(file)]
    training = [(str(iteration), "", name) for iteration in range(1, 9) for name in ("lr", "l_pix", "grad_norm")]
    validation = [(iteration, "held_out", "psnr") for iteration in "368"]
    assert sorted(rows) == sorted(training + validation)
    assert not (run.root / "tb_logger").exists()

    run.options["logger"].update(csv=False)
    run.train("--restart")
    assert not (run.run_folder / "metrics.csv").exists()
