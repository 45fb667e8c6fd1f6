"""What the CUDA kernels of Hugging Face's MRA compute, put in their place: without any its attention is zero."""

import torch
from transformers.models.mra import modeling_mra


class Kernels:
    """Blocks are (keys, queries), indices row n plus column."""

    @staticmethod
    def mm_to_sparse(query, key, indices):
        rows, columns = indices.long() // key.shape[1], indices.long() % key.shape[1]
        at = torch.arange(len(query))[:, None]
        return key.mT[at, columns] @ query[at, rows]

    @staticmethod
    def sparse_dense_mm(sparse, indices, dense, rows):
        into, columns = indices.long() // dense.shape[1], indices.long() % dense.shape[1]
        at = torch.arange(len(dense))[:, None]
        found = dense.new_zeros(len(dense), rows, *dense.shape[2:])
        return found.index_put((at.expand_as(into), into), dense[at, columns] @ sparse, accumulate=True)

    @staticmethod
    def index_max(values, indices, rows, columns):
        into = (indices.long() // columns)[..., None].expand(-1, -1, values.shape[1])
        top = torch.full((len(values), rows, values.shape[1]), -1e30).scatter_reduce(1, into, values.mT, "amax")
        return top.flatten(1), top.gather(1, into).mT


modeling_mra.mra_cuda_kernel = Kernels()
