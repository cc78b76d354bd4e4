# Read by CMake when llama.cpp's top folder is configured (-DCMAKE_PROJECT_llama.cpp_INCLUDE=this file): of its tools only
# llama-server is built, and what parses and serves is not optimised. Both together halve the time; the arithmetic
# (ggml, llama) is compiled as ever.
function(only_llama_server)
  get_property(folders DIRECTORY tools PROPERTY SUBDIRECTORIES)
  foreach(folder ${folders})
    get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
    if(targets)
      set_target_properties(${targets} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
  endforeach()
  set_target_properties(llama-server PROPERTIES EXCLUDE_FROM_ALL OFF)
  foreach(part llama-common cpp-httplib mtmd server-context llama-server-impl)
    target_compile_options(${part} PRIVATE -O0)
  endforeach()
endfunction()

cmake_language(DEFER CALL only_llama_server)
