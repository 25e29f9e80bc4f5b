"""Twenty differently shaped Hydra configurations, as the real experiments write them."""

from __future__ import annotations

from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "vllm": {
        "strategy": {"type": "deepconf", "temperature": 0.6, "confidence_threshold": -10},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "aime25"},
        "generation": {"temperature": 0.9, "top_k": 16},
    },
    "local": {
        "strategy": {"type": "self_consistency"},
        "model": {"type": "local", "model_path": "meta-llama/Llama3-8B"},
        "dataset": {"data_name": "gsm8k"},
        "generation": {"temperature": 0.7},
    },
    "openai_api": {
        "strategy": {"type": "baseline"},
        "model": {"type": "openai_api", "provider": None, "model_path": "gpt-4o"},
        "dataset": {"data_name": "math500"},
    },
    "openai_api with a provider": {
        "strategy": {"type": "baseline"},
        "model": {"type": "openai_api", "provider": "openrouter", "model_name": "openai/gpt-4o-mini"},
        "dataset": {"data_name": "gpqa_diamond"},
    },
    "another API": {
        "strategy": {"type": "baseline"},
        "model": {"type": "together_ai", "model_name": "meta/Llama-3.1"},
        "dataset": {"data_name": "human_eval_plus"},
    },
    "adaptive, the dataset named by the strategy": {
        "strategy": {"type": "adaptive", "data_name": "gsm8k", "uncertainty_threshold": 0.3},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "default"},
    },
    "adaptive, a reference": {
        "strategy": {"type": "adaptive", "data_name": "${dataset.data_name}"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "aime24"},
    },
    "scorer": {
        "strategy": {"type": "offline_best_of_n"},
        "scorer": {"type": "pd_gap"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "math"},
    },
    "scorer and aggregation": {
        "strategy": {"type": "offline_best_of_n", "aggregation": "mean"},
        "scorer": {"type": "entropy"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "math"},
        "system": {"seed": 42},
    },
    "score_aggregation": {
        "strategy": {"type": "beam_search", "score_aggregation": "min_token"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "math"},
    },
    "a first part": {
        "strategy": {"type": "deepconf"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "aime25", "offset": 0, "subset": 13},
    },
    "a second part": {
        "strategy": {"type": "deepconf"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "aime25", "offset": 13, "subset": 17},
    },
    "a subset of the full size": {
        "strategy": {"type": "baseline"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "gsm8k", "subset": 1319},
    },
    "offset null": {
        "strategy": {"type": "baseline"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "math", "offset": None, "subset": 100},
    },
    "an offset alone": {
        "strategy": {"type": "baseline"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "amc23", "offset": 10, "subset": None},
    },
    "an offset in an unknown dataset": {
        "strategy": {"type": "baseline"},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"data_name": "new_set", "offset": 10},
    },
    "a model path with slashes": {
        "strategy": {"type": "uncertainty_cot"},
        "model": {"type": "vllm", "model_name": None, "model_path": "/models/deep/Qwen3-8B/"},
        "dataset": {"data_name": "minerva_math"},
    },
    "a short model name": {
        "strategy": {"type": "baseline"},
        "model": {"type": "vllm", "model_path": "${oc.env:MODEL}", "model_short_name": "qwen25_math"},
        "dataset": {"data_name": "olympiadbench"},
    },
    "a dataset path": {
        "strategy": {"type": "deep_think_confidence", "temperature": 1},
        "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
        "dataset": {"dataset_path": "test-time-compute/test_MATH"},
    },
    "tree of thoughts, a temperature as text": {
        "strategy": {"type": "tree_of_thoughts"},
        "model": {"type": "vllm", "model_name": "A/B-7B", "model_path": "C/D"},
        "dataset": {"dataset_path": "openai/gsm8k"},
        "generation": {"temperature": "0.60"},
        "system": {"seed": 7},
    },
}
