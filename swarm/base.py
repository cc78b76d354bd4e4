"""The frozen base in 4 bits, its tokenizer, and texts as the experts read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rostok.engines.protocol import Message
from rostok.engines.templates import Template, template_for
from rostok.errors import ModelError
from rostok.generator.records import Page
from rostok.models import Base, training_folder


class FrozenBase:
    """The base, loaded once and shared by all experts of a run.

    Attributes:
        model: NF4 weights, bf16 compute (bitsandbytes; its CPU gradients equal those of the dequantised base:
            docs/experiments.md).
        tokenizer: of the same folder.
        folder: where its weights lie.
        template: the project's own chat template of this family.
    """

    def __init__(self, base: Base) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = training_folder(base)
        quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        device = "cuda:0" if torch.cuda.is_available() else "cpu"  # the GPU way was not run here
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model: Any = AutoModelForCausalLM.from_pretrained(
                folder, quantization_config=quantised, dtype=torch.bfloat16, device_map={"": device}, local_files_only=True,
                attn_implementation="sdpa")
        except (OSError, ValueError) as error:
            raise ModelError(f"the base in {folder} cannot be loaded for training: {error}. Check models.base.") from None
        # In eval mode bitsandbytes repacks CPU weights for AVX512-BF16, and the repacked product has no gradient: training
        # after a measurement would silently learn nothing (loss 2.6 -> 3.2 instead of 2.6 -> 1.3).
        for module in self.model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        self.sha256, self.name, self.folder = base.sha256, base.name, folder
        known = set(self.tokenizer.get_vocab())
        self.template: Template = template_for(known.__contains__, base.name)

    def wear(self, folder: Path) -> Any:
        """The base with the adapter in `folder`, as peft reads it, for measuring; `take_off` gives the base back."""
        from peft import PeftModel

        return PeftModel.from_pretrained(self.model, folder, low_cpu_mem_usage=True).eval()

    def take_off(self, model: Any) -> None:
        """Take the adapter out of what `wear` gave; the base is then as it was before."""
        self.model = model.unload()
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config

    def render(self, page: Page) -> str:
        """The page as the expert reads it: a conversation in the chat template, anything else as it is."""
        if not page.turns:
            return page.text
        return self.template.render([Message(turn.role, turn.content) for turn in page.turns], answer=False)

    def tokens(self, text: str, limit: int | None = None) -> list[int]:
        """Token ids, without special ones added, cut at `limit`."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids[:limit]

    def page_tokens(self, pages: Sequence[Page], limit: int) -> list[list[int]]:
        """Token ids of the pages, each closed by the end-of-text token unless a turn's end closes it."""
        end = [int(self.tokenizer.eos_token_id)]
        return [(self.tokens(self.render(page)) + ([] if page.turns else end))[:limit] for page in pages]
