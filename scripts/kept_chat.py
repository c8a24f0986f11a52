"""Make `tests/kept/chat/transformers.json` anew: talks as transformers writes them, their tokens, and which are answers.

    pip install transformers; python scripts/kept_chat.py
"""

import json
from pathlib import Path

import transformers
from tokenizers import Tokenizer

FOLDER = Path(__file__).parents[1] / "tests" / "kept" / "chat"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MARKED = """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- message.content + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
BRACKETS = """{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set rest = messages %}
{%- endif %}
{{- bos_token }}
{%- set state = namespace(said=0) %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Turns must alternate user and assistant.') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system %}
            {{- '[INST] <<SYS>>' + (system | tojson) + '<</SYS>> ' + message['content'] | trim + ' [/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] | trim + ' [/INST]' }}
        {%- endif %}
    {%- else %}
        {%- set state.said = state.said + 1 %}
        {{- ' ' + message['content'] | trim + eos_token }}
        {%- if state.said >= 9 %}{%- break %}{%- endif %}
    {%- endif %}
{%- endfor %}
"""
TALKS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The value of a name."}],
    [
        {"role": "system", "content": ' Be <brief> & "naïve" 🐍 '},
        {"role": "user", "content": "What is 1+1?\n"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And  é?"},
        {"role": "assistant", "content": " 日本 語\nfour lines "},
    ],
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def main() -> None:
    """Ask transformers."""
    made = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))  # of `arsenal tokenize`, specials of three customs
    peer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **TOKENS)
    cases = []
    for name, template in (("chatml", CHATML), ("marked", MARKED), ("brackets", BRACKETS)):
        for talk in TALKS:
            marked = name == "marked"
            got = peer.apply_chat_template(talk, chat_template=template, return_dict=True, return_assistant_tokens_mask=marked)
            case = {
                "name": name, "template": template, "messages": talk, "ids": got["input_ids"],
                "text": peer.apply_chat_template(talk, chat_template=template, tokenize=False),
                "asked": peer.apply_chat_template(talk[:-1], chat_template=template, tokenize=False, add_generation_prompt=True),
            }  # fmt: skip
            cases.append(case | ({"mask": got["assistant_masks"]} if marked else {}))
    kept = {"transformers": transformers.__version__, "tokens": TOKENS, "cases": cases}
    (FOLDER / "transformers.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
