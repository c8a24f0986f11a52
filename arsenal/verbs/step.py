"""`arsenal step FLOW STEP execution=NAME`: one step of a flow, for schedulers that call them one by one."""


def step(
    flow: str, name: str, /, execution: str, root: str = "flows", executor: str = "here", skip: str = "0", **params: str
) -> None:
    """Do one step of a flow, once all that it waits for is done in the same execution; what is done already is not done again.

    FLOW: its name, a YAML file, or FILE.py:NAME; any other key is a parameter of it. NAME: of the step.
    execution: what all steps of one execution are told, such as the scheduler's own name for it. root: the folder of flows, which
    all steps must see. executor: of a step with a table, here or processes. skip: the exit code where a condition leaves it out.
    """
    import sys

    from arsenal.cli import as_count
    from arsenal.pipelines import read_flow, run_step
    from arsenal.verbs.flow import StepsFailed, choose_executor, summary, teller

    code = as_count("skip", skip, 0)
    found = read_flow(flow, params)
    outcome = run_step(found, name, execution, root, choose_executor(executor, None, None, None, None), teller(found))
    if not outcome.complete:
        raise StepsFailed("")
    print(summary(outcome._replace(states={name: outcome.states[name]})))
    if outcome.states[name] == "skipped" and code:
        sys.exit(code)
