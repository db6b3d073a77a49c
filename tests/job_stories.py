"""What a batch job must do on every driver, told through the API of a running portal."""

from typing import Any

from tests.portal_api import PortalApi

OVER = ("succeeded", "failed", "cancelled", "timed_out")


class JobStories:
    """Subclasses give `api` and what to add to each request, as the image. One story each."""

    def asked(self) -> dict[str, Any]:
        return {}

    def run(self, api: PortalApi, **asked: Any) -> dict[str, Any]:
        return api.wait_for_job(api.submit(**{**self.asked(), **asked}), *OVER)

    def test_exit_codes_become_success_and_failure_with_the_last_lines(self, api: PortalApi) -> None:
        fine = self.run(api, script="echo all is well")
        assert (fine["state"], fine["exit_code"], fine["log_tail"].strip()) == ("succeeded", 0, "all is well")
        odd = self.run(api, command=["sh", "-c", "echo trouble; exit $1", "x", "7"])
        assert (odd["state"], odd["exit_code"], odd["log_tail"].strip()) == ("failed", 7, "trouble")
        assert "exit code 7" in odd["reason"]

    def test_a_program_that_is_not_there_is_named(self, api: PortalApi) -> None:
        gone = self.run(api, command=["no-such-program"])
        assert gone["state"] == "failed"
        assert "no-such-program" in gone["reason"]

    def test_a_script_has_its_interpreter_arguments_environment_and_simulated_gpus(self, api: PortalApi) -> None:
        script = '#!/bin/sh -e\necho "$1,$COLOUR,$BERTH_JOB_ID,$BERTH_REPLICA/$BERTH_REPLICAS,$BERTH_SIMULATED_GPUS"\n'
        seen = self.run(api, script=script, args=["a b"], env={"COLOUR": "red"}, gpus=1)
        assert seen["state"] == "succeeded", seen
        (device,) = seen["places"][0]["devices"]
        assert device["simulated"] is True
        assert seen["log_tail"].strip() == f"a b,red,{seen['id']},0/1,{device['uuid']}"

    def test_what_is_written_at_home_is_there_for_the_next_job(self, api: PortalApi) -> None:
        assert self.run(api, script="echo kept > left-by-a-job")["state"] == "succeeded"
        assert self.run(api, script="cat left-by-a-job")["log_tail"].strip() == "kept"
        alone = self.run(api, script="echo mine > new && ls", home=False)
        assert (alone["state"], alone["log_tail"].strip()) == ("succeeded", "new")

    def test_a_time_limit_ends_it_after_a_warning(self, api: PortalApi) -> None:
        slow = self.run(api, script="trap 'exit 0' TERM; while :; do sleep 0.1; done", time_limit="2s")
        assert (slow["state"], slow["reason"]) == ("timed_out", "It reached its time limit.")

    def test_cancel_ends_it_where_it_runs(self, api: PortalApi) -> None:
        job = api.submit(**self.asked(), command=["sleep", "1000"])
        api.wait_for_job(job, "running")
        assert api.call("POST", f"jobs/{job}:cancel")[1]["state"] in ("stopping", "cancelled")
        over = api.wait_for_job(job, *OVER)
        assert (over["state"], over["reason"]) == ("cancelled", "admin cancelled it.")

    def test_a_failed_job_is_tried_again_and_may_then_succeed(self, api: PortalApi) -> None:
        seen = self.run(api, script="test $BERTH_ATTEMPT -ge 2 || exit 75", retries={"exit": 3}, retry_exit_codes=[75])
        assert (seen["state"], seen["attempt"]) == ("succeeded", 2)

    def test_replicas_know_each_other(self, api: PortalApi) -> None:
        script = 'echo "$BERTH_REPLICA of $BERTH_REPLICAS at $BERTH_REPLICA_ADDRESSES" >> replicas-$BERTH_JOB_ID'
        seen = self.run(api, script=script, replicas=2)
        assert seen["state"] == "succeeded", seen
        assert [place["replica"] for place in seen["places"]] == [0, 1]
        told = self.run(api, script=f"sort replicas-{seen['id']}")["log_tail"].split("\n")
        first, second = self.addresses(seen["id"])
        assert [line for line in told if line] == [f"{n} of 2 at {first},{second}" for n in (0, 1)]

    def addresses(self, job: int) -> tuple[str, str]:
        raise NotImplementedError
