#!/usr/bin/env python3
"""Tests of tools/run-tests (what it counts) and tools/need (what it finds missing, and says when it may not install)."""

import importlib.machinery
import importlib.util
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

import house

sys.dont_write_bytecode = True


def load(name):
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(house.ROOT / "tools" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


run_tests = load("run-tests")


class Counting(unittest.TestCase):
    def counted(self, status, output, timed_out=False):
        result = run_tests.Result("x")
        run_tests.count(result, status, output, timed_out)
        return result.passed, result.failed, result.skipped, result.reason

    def test_cmocka_closing_lines(self):
        output = "[==========] 9 test(s) run.\n[  PASSED  ] 9 test(s).\n"
        self.assertEqual(self.counted(0, output), (9, 0, 0, ""))
        # Groups add up.
        self.assertEqual(self.counted(0, output + output), (18, 0, 0, ""))

    def test_cmocka_failures_and_skips(self):
        output = "[  PASSED  ] 5 test(s).\n[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] c\n[  FAILED  ] 2 test(s), listed below:\n[  FAILED  ] a\n[  FAILED  ] b\n\n 2 FAILED TEST(S)\n"
        self.assertEqual(self.counted(2, output), (5, 2, 1, "exit status 2"))

    def test_a_death_is_a_failure_beside_what_passed(self):
        output = "[==========] Running 3 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\n"
        self.assertEqual(self.counted(-6, output), (1, 1, 0, "killed by SIGABRT"))

    def test_a_leak_after_all_passed_is_a_failure(self):
        self.assertEqual(self.counted(1, "[  PASSED  ] 9 test(s).\nLeakSanitizer\n"), (9, 1, 0, "exit status 1"))

    def test_others_count_one(self):
        self.assertEqual(self.counted(0, "fine\n"), (1, 0, 0, ""))
        self.assertEqual(self.counted(0, ""), (1, 0, 0, ""))
        self.assertEqual(self.counted(3, "bad\n"), (0, 1, 0, "exit status 3"))
        self.assertEqual(self.counted(-9, "", True), (0, 1, 0, "took too long"))

    def test_a_closing_line_of_its_own(self):
        self.assertEqual(self.counted(1, "ok a\n4 passed, 1 failed\n"), (4, 1, 0, "exit status 1"))
        self.assertEqual(self.counted(0, "7 passed, 0 failed, 2 skipped\n"), (7, 0, 2, ""))
        self.assertEqual(self.counted(-11, "7 passed, 0 failed\n"), (7, 1, 0, "killed by SIGSEGV"))

    def test_skipped_with_its_reason(self):
        self.assertEqual(self.counted(77, "a\nno io_uring here\n\n"), (0, 0, 1, "no io_uring here"))


class WholeRuns(unittest.TestCase):
    """run-tests on a project of its own, with tests that pass, fail, skip, hang and leave a child behind."""

    PROJECT = """
project('x', meson_version: '>=1.0.0')
sh = find_program('sh')
test('good', sh, args: ['-c', 'echo note: 12 images; echo "[  PASSED  ] 3 test(s)."'], suite: 'one')
test('skips', sh, args: ['-c', 'echo not here; exit 77'], suite: 'one')
test('budget', sh, args: ['-c', 'test "$PENSTOCK_TEST_BUDGET" = long'], suite: 'two')
test('bad', sh, args: ['-c', 'echo the reason why; exit 1'], suite: 'two')
test('late', sh, args: ['-c', 'test -e ran || { : >ran; echo too early; exit 1; }'], suite: 'again')
test('damaged', sh, args: ['-c', 'test -e ran2 || { : >ran2; echo ERROR: AddressSanitizer: heap-use-after-free; exit 1; }'], suite: 'again')
test('hangs', sh, args: ['-c', 'sleep 1000 & wait'], suite: 'three', timeout: 1)
"""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="house-")
        cls.path = pathlib.Path(cls.directory.name)
        (cls.path / "meson.build").write_text(cls.PROJECT, encoding="utf-8")
        subprocess.run(["meson", "setup", cls.path / "b", cls.path], check=True, capture_output=True)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def run_it(self, *arguments):
        done = subprocess.run([house.ROOT / "tools/run-tests", self.path / "b", *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def test_a_clean_suite(self):
        status, output = self.run_it("--suite", "one")
        self.assertEqual(status, 0)
        self.assertEqual(output.splitlines()[-1], "3 passed, 0 failed, 1 skipped")
        self.assertIn("(not here)", output)
        self.assertIn("  12 images\n", output)

    def test_failures_show_their_output(self):
        status, output = self.run_it("--no-suite", "three", "--no-suite", "again")
        self.assertEqual(status, 1)
        self.assertEqual(output.splitlines()[-1], "3 passed, 2 failed, 1 skipped")
        self.assertIn("| the reason why", output)

    def test_the_long_budget(self):
        status, output = self.run_it("--long", "budget")
        self.assertEqual((status, output.splitlines()[-1]), (0, "1 passed, 0 failed, 0 skipped"))

    def test_a_hang_ends(self):
        status, output = self.run_it("--patience", "1", "hangs")
        self.assertEqual((status, output.splitlines()[-1]), (1, "0 passed, 1 failed, 0 skipped"))
        self.assertIn("took too long", output)

    def test_a_script_that_fails_is_run_again_and_told(self):
        for name in ("ran", "ran2"):
            (self.path / "b" / name).unlink(missing_ok=True)
        self.assertEqual(self.run_it("late")[0], 1)
        (self.path / "b" / "ran").unlink()
        status, output = self.run_it("--again", "late")
        self.assertEqual((status, output.splitlines()[-1]), (0, "1 passed, 0 failed, 0 skipped"))
        self.assertIn("UNSTEADY", output)
        self.assertIn("| too early", output)
        self.assertEqual(self.run_it("--again", "bad")[0], 1)
        self.assertEqual(self.run_it("--again", "damaged")[0], 1, "what a sanitizer found counts")

    def test_no_test_is_not_success(self):
        self.assertEqual(self.run_it("absent")[0], 1)

    def test_sums_go_to_a_file(self):
        sums = self.path / "sums"
        output = self.run_it("--suite", "one", "--sum", sums)[1]
        self.assertEqual(sums.read_text(encoding="ascii"), "3 0 1\n")
        self.assertNotIn("\n3 passed", output)

    def test_failures_go_to_a_file_too(self):
        failures = self.path / "failures"
        output = self.run_it("--no-suite", "three", "--no-suite", "again", "--failures", failures)[1]
        kept = failures.read_text(encoding="utf-8")
        self.assertIn("\n--- ", kept)
        self.assertIn(kept, output)


class Need(unittest.TestCase):
    """tools/need with a path of our own: it never reaches a real package manager here."""

    def need(self, *arguments, commands=()):
        with tempfile.TemporaryDirectory(prefix="house-") as directory:
            for name in "sh rm mkdir mktemp sort tr sed cat env tail".split():
                found = next(p for p in ("/usr/bin", "/bin") if os.path.exists(f"{p}/{name}"))
                os.symlink(f"{found}/{name}", f"{directory}/{name}")
            for name, text in commands:
                path = pathlib.Path(directory, name)
                path.write_text("#!/bin/sh\n" + text.replace("HERE", directory), encoding="utf-8")
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
            environment = {"PATH": directory, "TMPDIR": directory}
            done = subprocess.run(
                [house.ROOT / "tools/need", *arguments],
                env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
            calls = pathlib.Path(directory, "calls")
            return done.returncode, done.stdout + done.stderr, calls.read_text(encoding="utf-8") if calls.exists() else ""

    ROOT_ID = ("id", "echo 0\n")
    USER_ID = ("id", "echo 1000\n")
    APT = ("apt-get", 'echo "$*" >>HERE/calls\n[ "$1" = update ] && exit 0\nprintf "#!/bin/sh\\n" >HERE/absent; chmod +x HERE/absent 2>/dev/null || :\n')

    def test_quiet_when_all_is_here(self):
        self.assertEqual(self.need("sh=dash", "file:/=base-files"), (0, "", ""))

    def test_a_user_gets_the_exact_line(self):
        status, output, calls = self.need("absent=one,two", "sh=dash", "gone=three", commands=[self.USER_ID, self.APT])
        self.assertEqual((status, calls), (1, ""))
        self.assertIn("    apt-get install --no-install-recommends -y one three two\n", output)

    def test_root_installs_what_is_missing(self):
        chmod = ("chmod", 'exec /bin/chmod "$@"\n')
        status, output, calls = self.need("absent=one", "sh=dash", commands=[self.ROOT_ID, self.APT, chmod])
        self.assertEqual(status, 0, output)
        self.assertTrue(calls.startswith("install --no-install-recommends -y one "), calls)

    def test_old_lists_are_updated(self):
        chmod = ("chmod", 'exec /bin/chmod "$@"\n')
        apt = ("apt-get", self.APT[1].replace("exit 0\n", "touch_ HERE/updated && exit 0\n[ -e HERE/updated ] || exit 100\n"))
        touch = ("touch_", ': >"$1"\n')
        status, output, calls = self.need("absent=one", commands=[self.ROOT_ID, apt, chmod, touch])
        self.assertEqual(status, 0, output)
        self.assertEqual([line.split()[0] for line in calls.splitlines()], ["install", "update", "install"])

    def test_a_failed_installation_fails(self):
        apt = ("apt-get", "echo no such package\nexit 100\n")
        status, output, _ = self.need("absent=one", commands=[self.ROOT_ID, apt])
        self.assertEqual(status, 1)
        self.assertIn("no such package", output)
        self.assertEqual(self.need("absent=one", commands=[self.ROOT_ID, ("apt-get", "exit 0\n")])[0], 1)

    def test_no_package_manager(self):
        status, output, _ = self.need("absent=one", commands=[self.ROOT_ID])
        self.assertEqual(status, 1)
        self.assertIn("one", output)

    def test_what_starts_a_service_is_unpacked_only(self):
        with tempfile.TemporaryDirectory(prefix="house-") as directory:
            apt = ("apt-get", 'echo "$*" >>HERE/calls\n[ "$1" = download ] && : >one.deb\n')
            dpkg = ("dpkg-deb", 'mkdir -p "$3/usr/bin"\n: >"$3/usr/bin/absent"\n/bin/chmod +x "$3/usr/bin/absent"\n')
            wanted = f"unpacked:{directory}/x/usr/bin/absent=one"
            status, output, calls = self.need(wanted, commands=[apt, dpkg])
            self.assertEqual((status, calls), (0, "download -q one\n"), output)
            self.assertEqual(self.need(wanted), (0, "", ""))
            # Nothing else hangs on it.
            fails = ("apt-get", "echo no such package\nexit 100\n")
            status, output, _ = self.need(f"unpacked:{directory}/y/usr/bin/absent=one", commands=[fails, ("id", "echo 0\n")])
            self.assertEqual(status, 0)
            self.assertIn("one could not be had", output)

    def test_npm_packages_go_where_they_are_wanted(self):
        with tempfile.TemporaryDirectory(prefix="house-") as directory:
            wanted = f"npm:{directory}/x/node_modules/one/package.json=@a/one@1.2"
            npm = ("npm", 'echo "$*" >>HERE/calls\nmkdir -p "$3/node_modules/one"\n: >"$3/node_modules/one/package.json"\n')
            status, output, calls = self.need(wanted, commands=[npm])
            self.assertEqual(status, 0, output)
            self.assertTrue(calls.startswith(f"install --prefix {directory}/x ") and calls.endswith(" @a/one@1.2\n"), calls)
            self.assertEqual(self.need(wanted), (0, "", ""))
            for commands, word in (([], "no npm"), ([("npm", "echo no registry\nexit 1\n")], "could not be had")):
                status, output, _ = self.need(wanted.replace("/x/", "/y/"), commands=commands)
                self.assertEqual(status, 0)
                self.assertIn(word, output)

    def test_bad_usage(self):
        self.assertEqual(self.need("absent")[0], 2)


if __name__ == "__main__":
    unittest.main(verbosity=0)
